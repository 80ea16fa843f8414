"""What a recipe says of its calibration text: values, defaults, and what is wrong."""

import json
from pathlib import Path

import pytest

from projects import CALIBRATED
from quantmill.errors import UsageError
from quantmill.recipe.calibration_table import TextSource
from quantmill.recipe.recipe import Recipe, load


def changed(*pairs: tuple[str, str]) -> str:
    text = CALIBRATED
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def read(folder: Path, text: str) -> Recipe:
    (folder / "small.toml").write_text(text)
    return load(folder / "small.toml")


def test_a_text_and_the_defaults(tmp_path: Path) -> None:
    recipe = read(tmp_path, CALIBRATED.replace("n_ctx = 128\n", ""))
    assert recipe.calibration is not None
    assert recipe.calibration.texts == (TextSource("text.txt", tmp_path / "text.txt", None, None, None),)
    assert (recipe.calibration.n_ctx, recipe.calibration.chunks, recipe.calibration.from_chunk) == (512, None, 0)
    assert recipe.imatrix is not None
    assert (recipe.imatrix.file, recipe.imatrix.name, recipe.imatrix.arithmetic) == (None, "imatrix.dat", "f32")
    assert recipe.imatrix.memory == 8_000_000_000


SECRET = "hf_DONOTTELL"
HELD = {
    f"https://someone:{SECRET}@example.org/a.txt": "a user's name or password",
    f"http://{SECRET}@example.org/\u00e4": "a user's name or password",  # though it is no address at all
    f"https://example.org/a.txt?X-Amz-Expires=9&X-Amz-Signature={SECRET}": "the parameter 'X-Amz-Expires', a secret",
    f"https://example.org/a.txt?raw=1&token={SECRET}": "the parameter 'token', a secret by its name",
    f"https://example.org/a.txt?%74oken={SECRET}": "the parameter 'token', a secret by its name",
    f"https://example.org/a.txt?sv=2024&sig={SECRET}": "the parameter 'sig', a secret by its name",
    f"https://example.org/a.txt?Subscription-Key={SECRET}": "the parameter 'Subscription-Key', a secret by its name",
    f"https://example.org/a.txt#access_token={SECRET}": "the parameter 'access_token', a secret by its name",
    f"https://example.org/a.txt?a;password={SECRET}": "the parameter 'password', a secret by its name",
}
PLACES = {
    "calibration.url": '[calibration]\nurl = "{}"\n',
    "calibration.text": '[calibration]\ntext = "{}"\n',
    "calibration.name": '[calibration]\ntext = "text.txt"\nname = "{}"\n',
    "calibration.texts.url": '[[calibration.texts]]\nurl = "{}"\n',
    "evaluation.url": '[evaluation]\nurl = "{}"\n',
    "card.calibration": '[card]\ncalibration = "{}"\n',
    "card.license_link": '[card]\nlicense_link = "{}"\n',
    "card.credits": '[card]\ncredits = ["thanks", "to {}"]\n',
    "base.repo": '[base]\nrepo = "{}"\n',
    "base.revision": "[base]\nrevision = [{{ a = '{}' }}]\n",  # of another kind, which the message would show
}


@pytest.mark.parametrize("key", PLACES)
@pytest.mark.parametrize("url", HELD)
def test_an_address_with_a_secret_is_refused_and_not_repeated(tmp_path: Path, key: str, url: str) -> None:
    """All that a recipe says is published: by the lock, the provenance, the page and the recipe in the release."""
    with pytest.raises(UsageError) as error:
        read(tmp_path, 'llama_cpp = "b5490"\n' + PLACES[key].format(url))
    said = str(error.value)
    assert said.startswith(f"{tmp_path}/small.toml: {key}: its address holds {HELD[url]}")
    assert said.endswith(
        ", which lock and release would publish; give an address that needs none or, for a text, the path of a file"
    )
    assert SECRET not in said


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/@someone/a.txt",
        "https://example.org/a.txt?download=true&max_tokens=512&tokenizer=qwen#L3",
        "https://example.org/a.txt?monkey=1&side=left&user=3&id=5",
        "https://example.org/key/token/a=b.txt",
    ],
)
def test_other_addresses_are_taken(tmp_path: Path, url: str) -> None:
    recipe = read(tmp_path, CALIBRATED.replace('text = "text.txt"', f'url = "{url}"'))
    assert recipe.calibration is not None
    assert recipe.calibration.texts == (TextSource(url, None, url, None, None),)


def test_several_texts(tmp_path: Path) -> None:
    several = (
        '[[calibration.texts]]\nurl = "https://example.org/a.txt"\nname = "a"\nweight = 3\n'
        '[[calibration.texts]]\ntext = "b.txt"\nweight = 1\n[imatrix]\narithmetic = "bf16x2"\nmemory = "2GB"\n'
    )
    recipe = read(tmp_path, CALIBRATED.replace('text = "text.txt"\n', "") + several)
    assert recipe.calibration is not None
    assert [(text.name, text.weight) for text in recipe.calibration.texts] == [("a", 3), ("b.txt", 1)]
    assert recipe.calibration.dataset == "a, b.txt"
    assert recipe.imatrix is not None
    assert (recipe.imatrix.arithmetic, recipe.imatrix.memory) == ("bf16x2", 2_000_000_000)


LISTED = '[[calibration.texts]]\ntext = "a"\n'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'text = "text.txt"\n',
            "",
            "calibration: give one text by `text` or `url`, or several as [[calibration.texts]]",
        ),
        ("n_ctx = 128\n", LISTED, "calibration: give one text by `text` or `url`, or several as [[calibration.texts]]"),
        ('"text.txt"', '"t"\nurl = "https://a.b/c"', "calibration: give either `text`, a file's path, or `url`"),
        ('text = "text.txt"', 'url = "ftp://a.b/c"', "calibration.url: 'ftp://a.b/c' is not an address like"),
        ("n_ctx = 128", 'sha256 = "12"', "calibration.sha256: '12' is not a sha256; give its 64 lower-case hex digits"),
        *(
            (
                'text = "text.txt"',
                f"url = {json.dumps(url, ensure_ascii=False)}",
                f"calibration.url: {url!r} is not an address like https://example.org/text.txt; "
                "write all but ASCII as %XX",
            )
            for url in ("https://x/a b", "https://x/a\n", "https://x/é", "https://é/x", "https://x/", "https:///x")
        ),
        (
            "n_ctx = 128",
            "n_ctx = 513",
            "calibration.n_ctx: 513 leaves a batch of fewer than 16 tokens; choose 512, say",
        ),
        ("n_ctx = 128", "n_ctx = 0", "calibration.n_ctx: 0 leaves a batch of fewer than 16 tokens; choose 512, say"),
        (
            "n_ctx = 128",
            "n_ctx = -1",
            "calibration.n_ctx: -1 is not right here; give a whole number that is not negative",
        ),
        ("n_ctx = 128", "chunks = 0", "calibration.chunks: 0 chunks measure nothing"),
        (
            "n_ctx = 128",
            'process_embedding = true\n[imatrix]\nwith = "llama.cpp"',
            "calibration.process_embedding: llama-imatrix does not measure it; remove it or `imatrix.with`",
        ),
        ("n_ctx = 128", "chunk = 9", "calibration.chunk: there is no such key (did you mean calibration.chunks?)"),
        (
            'text = "text.txt"\nn_ctx = 128\n',
            f'name = "x"\n{LISTED}',
            "calibration.name: with [[calibration.texts]] this belongs to",
        ),
        ('text = "text.txt"\nn_ctx = 128\n', LISTED * 2, "calibration.texts: no text, or two of one name"),
        (
            'text = "text.txt"\nn_ctx = 128\n',
            LISTED + '[[calibration.texts]]\ntext = "b"\nweight = 1\n',
            "calibration.texts.weight: some texts have a weight and some none",
        ),
        ('text = "text.txt"\nn_ctx = 128\n', LISTED + "weight = 0\n", "calibration.texts.weight: a text of weight 0"),
        ("n_ctx = 128", '[imatrix]\narithmetic = "f64"', "imatrix.arithmetic: 'f64' is not one of f32, bf16x2"),
        ("n_ctx = 128", '[imatrix]\nmemory = "much"', "imatrix.memory: 'much' is not a size"),
        (
            "n_ctx = 128",
            '[imatrix]\nfile = "i"',
            "imatrix.file: a ready file needs no [calibration]; remove one of the two",
        ),
        (
            "n_ctx = 128",
            f'[imatrix]\nsha256 = "{"0" * 64}"',
            "imatrix.sha256: only a ready file (imatrix.file) has one",
        ),
        (
            '[calibration]\ntext = "text.txt"\nn_ctx = 128\n',
            f'[imatrix]\nfile = "i"\nsha256 = "{"0" * 64}"\narithmetic = "f32"\n',
            "imatrix.arithmetic: nothing is computed for a ready file; remove it",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read(tmp_path, changed((old, new)))
    assert str(error.value).startswith(f"{tmp_path}/small.toml: {message}")
