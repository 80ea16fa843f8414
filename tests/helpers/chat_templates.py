"""Chat templates: usual ones in the shapes of public models, and hostile ones with what becomes of each.

    python chat_templates.py NAME...

Prints the prompts of those named as JSON, for a test that compares what several processes make of them.
"""

import json
import sys

from quantmill.card.prompt import prompt_of

CONTENT = "{{ messages[-1].content }}"
TOOLS = (
    '{% set tools = [{"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": '
    '{"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "enum": [1, 2]}}, '
    '"required": ["city"]}}}] %}'
)
TURNS = (
    '{% set messages = messages + [{"role": "assistant", "content": "<think>hm</think>yes", "tool_calls": [{"id": '
    '"abcdefghi", "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo", "days": 2}}}]}, '
    '{"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": "{}"}] + messages[-1:] %}'
)
FAMILIES = {
    "chatml": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "llama2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
    "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}{% if loop.index0 == 0 and system_message %}{% set content = '<<SYS>>\\n' ~ "
    "system_message ~ '\\n<</SYS>>\\n\\n' ~ message['content'] %}{% else %}{% set content = message['content'] %}"
    "{% endif %}{% if message['role'] == 'user' %}{{ bos_token ~ '[INST] ' ~ content.strip() ~ ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' ~ content.strip() ~ ' ' ~ eos_token }}{% endif %}{% endfor %}",
    "llama3": "{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}{%- set date_string"
    " = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}{%- if not "
    "tools is defined %}{%- set tools = none %}{%- endif %}{{- '<|start_header_id|>system<|end_header_id|>\n\nToday: ' "
    "+ date_string + '\n\n' }}{%- if tools is not none %}{%- for t in tools %}{{- t | tojson(indent=4) }}{{- '\n\n' }}"
    "{%- endfor %}{%- endif %}{%- for message in messages %}{%- if not (message.role == 'ipython' or message.role == "
    "'tool' or 'tool_calls' in message) %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
    "message['content'] | trim + '<|eot_id|>' }}{%- elif 'tool_calls' in message %}{%- if not message.tool_calls|length"
    " == 1 %}{{- raise_exception('one tool') }}{%- endif %}{%- set tool_call = message.tool_calls[0].function %}"
    "{{- tool_call.name }}{{- tool_call.arguments | tojson }}{%- for arg_name, arg_val in tool_call.arguments | items "
    "%}{{- arg_name + '=\"' + arg_val|string + '\"' }}{%- if not loop.last %}{{- ', ' }}{%- endif %}{%- endfor %}"
    "{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{%- endif %}",
    "mistral": "{%- set loop_messages = messages %}{%- set user_messages = loop_messages | selectattr('role', "
    "'equalto',"
    " 'user') | list %}{%- set ns = namespace(index=0) %}{{- bos_token }}{%- for message in loop_messages %}{%- if "
    "message['role'] == 'user' %}{%- if tools is defined and tools is not none and (message == user_messages[-1]) %}"
    "{{- '[AVAILABLE_TOOLS] [' }}{%- for tool in tools %}{%- set tool = tool.function %}{{- '{\"type\": "
    '"function", \' '
    "}}{%- for key, val in tool.items() if key != 'return' %}{%- if val is string %}{{- '\"' + key + '\": \"' + val + "
    "'\"' }}{%- else %}{{- '\"' + key + '\": ' + val|tojson }}{%- endif %}{%- if not loop.last %}{{- ', ' }}{%- "
    "endif %}"
    "{%- endfor %}{{- '}' }}{%- endfor %}{{- '][/AVAILABLE_TOOLS]' }}{%- endif %}{{- '[INST] ' + message['content'] + "
    "'[/INST]' }}{%- set ns.index = ns.index + 1 %}{%- elif message.tool_calls is defined %}{%- for tool_call in "
    "message.tool_calls %}{%- set out = tool_call.function|tojson %}{{- out[:-1] }}{%- if not tool_call.id is defined "
    "or tool_call.id|length != 9 %}{{- raise_exception('ids') }}{%- endif %}{{- ', \"id\": \"' + tool_call.id + "
    "'\"}' }}"
    "{%- endfor %}{{- eos_token }}{%- else %}{{- ' ' + message['content'] }}{%- endif %}{%- endfor %}",
    "gemma": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else "
    "%}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + "
    "'<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
    "gemma3": "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- if messages[0]['content'] is string -%}"
    "{%- set first = messages[0]['content'] + '\n\n' -%}{%- else -%}{%- set first = messages[0]['content'][0]['text'] "
    "-%}{%- endif -%}{%- set loop_messages = messages[1:] -%}{%- else -%}{%- set first = '' -%}{%- set loop_messages = "
    "messages -%}{%- endif -%}{%- for message in loop_messages -%}{{ '<start_of_turn>' + (message['role'] | replace("
    "'assistant', 'model')) + '\n' + (first if loop.first else '') }}{%- if message['content'] is string -%}"
    "{{ message['content'] | trim }}{%- elif message['content'] is iterable -%}{%- for item in message['content'] -%}"
    "{{ item['text'] | trim }}{%- endfor -%}{%- else -%}{{ raise_exception('Invalid content type') }}{%- endif -%}"
    "{{ '<end_of_turn>\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{'<start_of_turn>model\n'}}{%- endif -%}",
    "qwen2": "{%- if tools %}{{- '<|im_start|>system\n' }}{%- if messages[0]['role'] == 'system' %}{{- messages[0]["
    "'content'] }}{%- else %}{{- 'You are a helpful assistant.' }}{%- endif %}{{- '\n\n# Tools\n<tools>' }}{%- for "
    "tool "
    "in tools %}{{- '\n' }}{{- tool | tojson }}{%- endfor %}{{- '\n</tools>{\"name\": <name>}<|im_end|>\n' }}{%- "
    "else %}"
    "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{%- endif %}{%- endif %}{%- for message in messages %}{%- if (message.role == 'user') or (message.role == 'system'"
    " and not (loop.first and tools)) %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + "
    "'\n' }}{%- elif message.role == 'tool' %}{%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != 'tool') "
    "%}{{- '<|im_start|>user' }}{%- endif %}{{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}"
    "{%- if loop.last or (messages[loop.index0 + 1].role != 'tool') %}{{- '<|im_end|>\n' }}{%- endif %}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}",
    "qwen3": "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}{%- for message in "
    "messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}{%- if ns.multi_step_tool and message.role "
    "== 'user' and message.content is string and not(message.content.startswith('<tool_response>') and message.content."
    "endswith('</tool_response>')) %}{%- set ns.multi_step_tool = false %}{%- set ns.last_query_index = index %}"
    "{%- endif %}{%- endfor %}{%- for message in messages %}{%- set content = message.content if message.content is "
    "string else '' %}{%- if message.role == 'assistant' %}{%- set reasoning = '' %}{%- if '</think>' in content %}"
    "{%- set reasoning = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}{%- set "
    "content ="
    " content.split('</think>')[-1].lstrip('\n') %}{%- endif %}{%- if loop.index0 > ns.last_query_index and reasoning "
    "%}{{- '<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' }}{%- endif %}{{- content }}{%- for tool_call in "
    'message.tool_calls %}{{- \'{"name": "\' + tool_call.function.name + \'", "arguments": \' }}{%- if tool_call.'
    "function.arguments is string %}{{- tool_call.function.arguments }}{%- else %}{{- tool_call.function.arguments | "
    "tojson }}{%- endif %}{{- '}' }}{%- endfor %}{%- else %}{{- '<|im_start|>' + message.role + '\n' + content + "
    "'<|im_end|>\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- if "
    "enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif "
    "%}",
    "deepseek": "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set "
    "ns = namespace(is_first=false, is_tool=false, system_prompt='', is_first_sp=true) %}{%- for message in messages %}"
    "{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + "
    "message['content'] %}{% set ns.is_first_sp = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + "
    "'\n\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for "
    "message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{ '<\uff5cUser\uff5c>' + "
    "message['content'] }}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not none %}{% set"
    " content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}"
    "{% endif %}{{ '<\uff5cAssistant\uff5c>' + content + '<\uff5cend▁of▁sentence\uff5c>' }}{%- endif %}{%- if "
    "message['role'] == 'tool' "
    "%}{%- set ns.is_tool = true -%}{{ '<\uff5ctool▁output▁begin\uff5c>' + message['content'] }}{%- endif %}{%- "
    "endfor -%}"
    "{% if add_generation_prompt and not ns.is_tool %}{{ '<\uff5cAssistant\uff5c><think>\n' }}{% endif %}",
    "phi": "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{ "
    "'<|system|>\n' + "
    "message['content'] + '<|end|>\n' }}{% elif message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + "
    "'<|end|>\n' }}{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    "command-r": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set "
    "system_message = messages[0]['content'] %}{% elif false == true %}{% set loop_messages = messages %}{% else %}"
    "{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% if system_message != false %}"
    "{{ '<|SYSTEM_TOKEN|>' + system_message }}{% endif %}{%- macro json_to_python_type(json_spec) %}{%- set basic = "
    "{'string': 'str', 'number': 'float', 'integer': 'int', 'boolean': 'bool'} %}{%- if basic[json_spec.type] is "
    "defined %}{{- basic[json_spec.type] }}{%- elif json_spec.type == 'array' %}{{- 'List[' + json_to_python_type("
    "json_spec['items']) + ']' }}{%- elif json_spec.type == 'object' %}{{- 'Dict' }}{%- elif json_spec.type is "
    "iterable "
    "%}{{- 'Union[' }}{%- for t in json_spec.type %}{{- json_to_python_type({'type': t}) }}{%- if not loop.last %},"
    "{%- endif %}{%- endfor %}{{- ']' }}{%- else %}{{- 'Any' }}{%- endif %}{%- endmacro %}{%- for tool in tools or [] "
    "%}{{ '\ndef ' + tool.function.name + '(' }}{%- for name, spec in tool.function.parameters.properties | dictsort "
    "%}{{ name }}: {{ json_to_python_type(spec) }}{{ ', ' if not loop.last }}{%- endfor %}{{ ')' }}{%- endfor %}"
    "{% for message in loop_messages %}{% set content = message['content'] %}{% if message['role'] == 'user' %}"
    "{{ '<|USER_TOKEN|>' + content.strip() + '<|END_OF_TURN_TOKEN|>' }}{% elif message['role'] == 'assistant' %}"
    "{{ '<|CHATBOT_TOKEN|>' + content.strip() + '<|END_OF_TURN_TOKEN|>' }}{% endif %}{% endfor %}",
    "vicuna": "{% if messages[0].role == 'system' %}{{ messages[0].content ~ ' ' }}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}{% for m in rest %}{{ m.role|upper ~ ': ' ~ m.content ~ ('' if "
    "loop.last else ' ') }}{% endfor %}{{ ' ASSISTANT:' }}",
    "zephyr": "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] "
    "+ eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "alpaca": "{%- for message in messages %}{%- if message.role == 'user' %}{{- '### Instruction:\n' ~ "
    "message.content "
    "~ '\n\n' }}{%- elif message.role == 'assistant' %}{{- '### Response:\n' ~ message.content }}{%- else %}"
    "{{- message.content ~ '\n\n' }}{%- endif %}{%- endfor %}{{- '### Response:\n' }}",
    "macros": "{%- macro turn(role, content=none) -%}<|{{ role }}|>{{ caller() if caller else content }}<|end|>"
    "{%- endmacro -%}{% for m in messages %}{{ turn(m.role, content=m.content) }}{% endfor %}{% call turn('note') %}x"
    "{% endcall %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.role }}: {{ m.content }}{% endgeneration %}{% endfor %}",
    "loops": "{% for m in messages if m.role != 'tool' %}{% if loop.index > 9 %}{% break %}{% endif %}{{ "
    "loop.cycle('a', "
    "'b') ~ loop.revindex ~ loop.length }}{{ m.content }}{% else %}nothing{% endfor %}",
    "filters": "{{ messages|map(attribute='role')|unique|sort|join(', ') }} {{ messages|map(attribute='content')|join("
    "'\n')|indent(2) }} {{ {'b': 1, 'a': [true, none, 1.5]}|dictsort }} {{ range(3)|map('string')|list }} "
    "{{ messages|rejectattr('role', 'in', ['system'])|list|count }}{{ 'x%03d %s'|format(7, [1]) }}{{ 'a-b'|title }}",
    "formats": "{{ '{} {0}'.format(1) if false else '{:>8}|{x}'.format(messages[-1].role, x=[1, 'a']) }} {{ "
    "'%s=%5.2f' % "
    "('a', 1.5) }} {{ ', '.join(messages|map(attribute='role')) }} {{ messages[-1].content|e }} {{ 10**20 // 3 }}",
    "blocks": "{% set text %}{% for m in messages %}{{ m.content }}\n{% endfor %}{% endset %}{% filter trim %}{{ "
    "text }} "
    "{% endfilter %}{% with n = messages|length %}{{ n }}{% endwith %}{% block end %}!{% endblock %}",
}
VARIANTS = {"": "", " with tools": TOOLS, " with turns": TURNS, " with both": TOOLS + TURNS}
USUAL = {name + variant: prefix + text for name, text in FAMILIES.items() for variant, prefix in VARIANTS.items()}

_KEYS = "{'aa': 1, 'bb': 2, 'cc': 3, 'dd': 4}"
_OBJECTS = {  # what has an address or an order of its own
    "a set": f"({_KEYS}.keys() - [])",
    "a set of pairs": f"({_KEYS}.items() - [])",
    "a set from behind": f"(['aa', 'zz', 'yy'] - {_KEYS}.keys())",
    "a generator": "(range(3)|map('abs'))",
    "a chain": "(messages|select|map('length'))",
    "a method": "messages[0].get",
    "a method of a text": "''.join",
    "a function": "raise_exception",
    "a class": "namespace",
    "an instance": "cycler(1)",
    "a namespace": "namespace(a=1)",
    "a namespace of a method": "namespace(a=''.join)",
    "keys": f"{_KEYS}.keys()",
    "bytes": "'x'.encode()",
    "a list of a method": "[1, [''.join]]",
    "a table of a generator": "{'a': {'b': range(3)|map('abs')}}",
    "a tuple of a function": "(range, 1)",
}
_PRINTS = {
    "printed": "{{ X }}",
    "as text": "{{ X|string }}",
    "in disguise": "{{ X|string|replace(' at 0x', '@') }}",
    "in part": "{{ (X|string)[-8:] }}",
    "concatenated": "{{ 'a' ~ X }}",
    "as a format": "{{ '%s' % [X] }}",
    "by format": "{{ '{}'.format(X) }}",
    "by a filter": "{{ '%r'|format(X) }}",
    "joined": "{{ [X]|join(',') }}",
}
_DOUBLE = (
    "{% set n = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set n.a = [n.a, n.a] %}"
    "{% set n.b = [n.b, n.b] %}{% endfor %}"
)
_TUPLE = _DOUBLE.replace("[1]", "(1,)").replace("[n.a, n.a]", "(n.a, n.a)").replace("[n.b, n.b]", "(n.b, n.b)")
_TABLE = _DOUBLE.replace("[n.a, n.a]", "{1: n.a, 2: n.a}").replace("[n.b, n.b]", "{1: n.b, 2: n.b}")
_DEEP = (
    "{% set n = namespace(a=(1,), b=(1,)) %}{% for i in range(20000) %}{% set n.a = (n.a,) %}{% set n.b = (n.b,) %}"
    "{% endfor %}"
)
_CHAIN = "{% set n = namespace(a=[1]) %}{% for i in range(X) %}{% set n.a = n.a|map('abs') %}{% endfor %}"
_PASS = "{% for i in range(30000) %}X{% endfor %}"
_OTHERS = {
    # What holds a part twice is read twice: 2^60 steps of one operation.
    **{
        f"{how} of shared {kind}": (start + text, "slow")
        for kind, start in (("lists", _DOUBLE), ("tuples", _TUPLE), ("tables", _TABLE))
        for how, text in {
            "an equation": "{{ n.a == n.b }}",
            "an inequality": "{{ n.a != n.b }}",
            "a member": "{{ n.a in [n.b] }}",
            "print": "{{ n.a }}",
            "JSON": "{{ n.a|tojson }}",
        }.items()
    },
    "an order of shared lists": (_DOUBLE + "{{ n.a < n.b }}", "slow"),
    "a sort of shared lists": (_DOUBLE + "{{ [n.a, n.b]|sort|length }}", "slow"),
    "a test of shared lists": (_DOUBLE + "{{ n.a is eq(n.b) }}", "slow"),
    "a select of shared lists": (_DOUBLE + "{{ [n.a]|select('==', n.b)|list|length }}", "slow"),
    "an index of shared lists": (_DOUBLE + "{{ [n.b].index(n.a) }}", "slow"),
    "a count of shared lists": (_DOUBLE + "{{ [n.b].count(n.a) }}", "slow"),
    "a change of shared lists": (_DOUBLE + "{% for i in [n.a, n.b] %}{{ loop.changed(i) }}{% endfor %}", "slow"),
    "an exception of shared lists": (_DOUBLE + "{{ raise_exception(n.a) }}", "slow"),
    "a case of shared lists": (_DOUBLE + "{{ n.a is lower }}", "slow"),
    "a key of shared tuples": (_TUPLE + "{% set d = {n.a: 1} %}", "slow"),
    "a look-up of shared tuples": (_TUPLE + "{{ {}[n.a] }}", "slow"),
    "a get of shared tuples": (_TUPLE + "{{ {}.get(n.a) }}", "slow"),
    "keys of shared tuples": (_TUPLE + "{{ dict([(n.a, 1)])|length }}", "slow"),
    "keys of a namespace": (_TUPLE + "{% set m = namespace([(n.a, 1)]) %}", "slow"),
    "unique shared tuples": (_TUPLE + "{{ [n.a, n.b]|unique|list|length }}", "slow"),
    "an attribute of shared tuples": (_TUPLE + "{{ [{}]|map(attribute=n.a)|list|length }}", "slow"),
    "deep tuples": (_DEEP + "{{ {n.a: 1}|length }}", "broken"),
    "deep tuples, compared": (_DEEP + "{{ n.a == n.b }}", "broken"),
    "deep tuples, printed": (_DEEP + "{{ n.a }}", "broken"),
    "a chain of generators": (_CHAIN.replace("X", "9000") + "{{ n.a|list }}", "broken"),
    "a dropped chain of generators": (_CHAIN.replace("X", "20000") + CONTENT, "{prompt}"),
    # Little to read, much to do.
    "sums of ranges": (_PASS.replace("X", "{{ range(99999)|sum }}"), "slow"),
    "generators without a body": (_PASS.replace("X", "{{ range(99999)|map(attribute='real')|max }}"), "slow"),
    "a remainder of a format": (_PASS.replace("X", "{% if '%9999999d' is odd %}{% endif %}"), "slow"),
    "a width in an argument": (_PASS.replace("X", "{% if '%*d' % (9999999, 1) == '' %}{% endif %}"), "slow"),
    "a width in a text": (_PASS.replace("X", "{% if '{:{w}}'.format(1, w='9999999') == '' %}{% endif %}"), "slow"),
    "a filter's width": (_PASS.replace("X", "{% if '%9999999d'|format(1) == '' %}{% endif %}"), "slow"),
    "many fields": ("{% set f = '{0}' * 100000 %}" + _PASS.replace("X", "{% set x = f.format('') %}"), "slow"),
    "a sum of lists": ("{% set l = [[1] * 30] * 14000 %}{{ l|sum(start=[])|length }}", "slow"),
    "loops in loops": ("{% for a in b %}" * 120 + "{{ 1 }}" * 9000 + "{% endfor %}" * 120, "slow"),
    "loops behind loops": ("{% for a in b %}{% else %}" * 120 + "{{ 1 }}" * 9000 + "{% endfor %}" * 120, "slow"),
    "macros in macros": ("{% macro m() %}" * 120 + "{{ 1 }}" * 9000 + "{% endmacro %}" * 120, "slow"),
    # What depends on the Python, or is no text.
    "half a pair": ("{{ '\\ud800' }}" + CONTENT, "broken"),
    "half a pair as it is": ("\ud800" + CONTENT, "broken"),
    "half a pair in a table": ("{{ {'\\ud800': 1}|tojson }}" + CONTENT, "broken"),
    "a name of a character": ("{{ '\\N{BULLET}' }}" + CONTENT, "\u2022{prompt}"),
    "pprint": ("{{ {(1, 'a'): 1, ('a', 1): 2}|pprint }}" + CONTENT, "broken"),
    "wordwrap": ("{{ 'a b'|wordwrap(1) }}" + CONTENT, "broken"),
    "striptags": ("{{ '<a>'|striptags }}" + CONTENT, "broken"),
    "unescape": ("{{ ('&amp;'|safe).unescape() }}" + CONTENT, "unsafe"),
    "chance": ("{{ [1, 2]|random }}" + CONTENT, "broken"),
    "a loop over a set": ("{% for x in " + _OBJECTS["a set"] + " %}{{ x }}{% endfor %}" + CONTENT, "unsafe"),
    "a list of a set": ("{{ " + _OBJECTS["a set"] + "|list }}" + CONTENT, "unsafe"),
    "a markup's join": ("{{ (','|safe).join([messages[0].get]) }}" + CONTENT, "unsafe"),
    "a markup's class": ("{{ (','|safe).escape(messages[0].get) }}" + CONTENT, "unsafe"),
    "a field of a field": ("{{ '{0.get}'.format(messages[0]) }}" + CONTENT, "unsafe"),
    "a format of a table": ("{{ '{a}'.format_map({'a': ''.join}) }}" + CONTENT, "unsafe"),
    "bytes of an object": ("{{ ('%a'.encode() % raise_exception).decode() }}" + CONTENT, "unsafe"),
    # What looks like an address is none, and what is undefined has no text.
    "a text with an address": ("loaded at 0x7f0000 " + CONTENT, "loaded at 0x7f0000 {prompt}"),
    "nothing": ("{{ nothing }}{{ [nothing] }}" + CONTENT, "[Undefined]{prompt}"),
}
_WORKS = {  # filters, operators and syntax that have more to do than they look like
    "urlize": ("{% set s='www.'~'a.'*100000 %}{{ s|urlize|length }}" + CONTENT, "slow"),
    "urlize2": ("{% set s='('*100000~'http://x' %}{{ s|urlize|length }}" + CONTENT, "100008{prompt}"),
    "urlize4": ("{% set s='http://x.y/'~'&gt;'*100000 %}{{ s|urlize|length }}" + CONTENT, "slow"),
    "wordcount": ("{% set s='a '*200000 %}{{ s|wordcount }}" + CONTENT, "slow"),
    "title": ("{% set s='a-'*200000 %}{{ s|title|length }}" + CONTENT, "slow"),
    "replace blow": (
        "{% set s='a'*300 %}{% set t=s|replace('a',s) %}{% set t=t|replace('a',s) %}{{ t|length }}" + CONTENT,
        "slow",
    ),
    "join blow": ("{% set s='a'*30000 %}{{ ([s]*30000)|join|length }}" + CONTENT, "slow"),
    "join blow2": ("{{ (['a'*10000]*10000)|join('b'*10000)|length }}" + CONTENT, "slow"),
    "int parse": ("{{ ('9'*100000)|int }}" + CONTENT, "0{prompt}"),
    "int parse base": ("{{ ('f'*200000)|int(base=16) }}" + CONTENT, "broken"),
    "big int str": ("{% set x=('f'*200000)|int(base=16) %}{{ x|string|length }}" + CONTENT, "slow"),
    "big int mod": ("{% set x=('f'*200000)|int(base=16) %}{{ x % 7 }}" + CONTENT, "3{prompt}"),
    "big int floordiv": (
        "{% set x=('f'*240000)|int(base=16) %}{% set y=('e'*120000)|int(base=16) %}{{ (x // y) % 7 }}" + CONTENT,
        "slow",
    ),
    "a shift": ("{{ 1 .__lshift__(10**9) }}" + CONTENT, "slow"),
    "bytes that are filled up": ("{{ 'x'.encode().ljust(400000000)|length }}" + CONTENT, "unsafe"),
    "maketrans": ("{{ ('a'*1000).translate({97:'b'*100000})|length }}" + CONTENT, "slow"),
    "expandtabs": ("{{ ('\\t'*1000).expandtabs(400000)|length }}" + CONTENT, "slow"),
    "expandtabs kw": ("{{ ('\\t'*1000).expandtabs(tabsize=400000)|length }}" + CONTENT, "slow"),
    "zfill": ("{{ 'x'.zfill(400000000)|length }}" + CONTENT, "slow"),
    "indent text": ("{{ ('\\n'*1000)|indent('x'*400000)|length }}" + CONTENT, "slow"),
    "tojson indent": ("{{ [[[[[[1]*100]*100]*100]*100]*100]|tojson(indent=100)|length }}" + CONTENT, "slow"),
    "recursive loop": ("{% for i in [[]] recursive %}{{ loop([[]]) }}{% endfor %}" + CONTENT, "broken"),
    "cycler": ("{{ cycler(*range(99999)).next() }}" + CONTENT, "slow"),
    "joiner": ("{{ joiner('x'*900000)() }}" + CONTENT, "slow"),
    "dict big": ("{{ dict.fromkeys(range(99999))|length }}" + CONTENT, "99999{prompt}"),
    "a joiner and a method": ("{{ joiner }} {{ messages[0].items }}" + CONTENT, "unsafe"),
    "deep parens": ("{{ " + "(" * 50000 + "1" + ")" * 50000 + " }}" + CONTENT, "broken"),
    "deep list": ("{{ " + "[" * 3000 + "]" * 3000 + " }}" + CONTENT, "broken"),
    "deep blocks": ("{% if 1 %}" * 3000 + "{% endif %}" * 3000 + CONTENT, "broken"),
    "unary chain": ("{{ " + "-" * 30000 + "1 }}" + CONTENT, "broken"),
    "not chain": ("{{ " + "not " * 20000 + "1 }}" + CONTENT, "broken"),
    "long name": ("{{ " + "a" * 190000 + " }}" + CONTENT, "{prompt}"),
    "many names": ("{% set a=1 %}" * 12000 + CONTENT, "{prompt}"),
    "filter chain": ("{{ 1" + "|abs" * 20000 + " }}" + CONTENT, "broken"),
    "lexer redos": ("{{ " + "1_" * 60000 + " }}" + CONTENT, "broken"),
    "lexer redos2": ("{%" + " " * 150000 + CONTENT, "broken"),
    "lexer comment": ("{#" * 60000 + CONTENT, "broken"),
    "lexer raw": ("{% raw %}" * 20000 + CONTENT, "broken"),
    "groupby": ("{{ range(99999)|groupby('real')|list|length }}" + CONTENT, "slow"),
    "batch": ("{{ range(10)|batch(9999999,'x')|list|length }}" + CONTENT, "slow"),
    "slice": ("{{ range(10)|slice(9999999)|list|length }}" + CONTENT, "slow"),
    "a division by zero": ("{{ range(99999)|select('divisibleby',0)|list }}" + CONTENT, "broken"),
    "lipsum": ("{{ lipsum(n=100000) }}" + CONTENT, "broken"),
    "a hash": ("{{ 'a'.__hash__() }}" + CONTENT, "unsafe"),
    "a size that is none": ("{{ 'nan'|float|filesizeformat }}" + CONTENT, "nan YB{prompt}"),
    "an order of hashes": (
        "{{ {'a':1,'b':2,'c':3}.keys()|list }}{% for x in ['a','b','zz','y']|unique %}{{x}}{% endfor %}" + CONTENT,
        "['a', 'b', 'c']abzzy{prompt}",
    ),
    "map attribute": ("{{ ['']|map(attribute='__class__')|list }}" + CONTENT, "[Undefined]{prompt}"),
    "striptags quadratic": ("{% set s='<!--'*60000 %}{{ s|striptags|length }}" + CONTENT, "broken"),
    "wordwrap3": ("{% set s='-'*300000 %}{{ s|wordwrap(3)|length }}" + CONTENT, "broken"),
    "deep nesting of 5000": (
        "{% set n=namespace(a=[1]) %}{% for i in range(5000) %}{% set n.a=[n.a] %}{% endfor %}{{ n.a|string|length }}"
        + CONTENT,
        "broken",
    ),
    "deep compare 100000": (
        "{% set n=namespace(a=[1],b=[1]) %}{% for i in range(30000) %}{% set n.a=[n.a] %}{% set n.b=[n.b] %}"
        "{% endfor %}{{ n.a==n.b }}" + CONTENT,
        "broken",
    ),
    "pow float loop": (
        "{% set n=namespace(a=3) %}{% for i in range(40) %}{% set n.a=n.a*n.a %}{% endfor %}{{ n.a }}" + CONTENT,
        "slow",
    ),
    "generation": ("{% generation %}" + CONTENT + "{% endgeneration %}", "{prompt}"),
    "loopcontrols": ("{% for i in range(9) %}{% break %}{% endfor %}" + CONTENT, "{prompt}"),
}
# By name: the template, and why it is not shown or what is.
HOSTILE: dict[str, tuple[str, str]] = (
    {
        f"{what} {how}": (text.replace("X", found) + CONTENT, "unsafe")
        for at, (what, found) in enumerate(_OBJECTS.items())
        for number, (how, text) in enumerate(_PRINTS.items())
        if (at + number) % 3 == 0
    }
    | _OTHERS
    | _WORKS
)
ALL = USUAL | {name: template for name, (template, _) in HOSTILE.items()}


def prompt(name: str) -> str:
    """The prompt, or why it is not shown."""
    found = prompt_of({"chat_template": ALL[name], "bos_token": "<s>", "eos_token": "</s>"})
    assert found is not None
    return found.refused or found.text


if __name__ == "__main__":
    print(json.dumps({name: prompt(name) for name in sys.argv[1:]}))
