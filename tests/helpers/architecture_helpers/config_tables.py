"""Keys of config.json that most classes read, and those that change no file."""

from typing import Any

# What is read: another value, which the metadata or the tensors show.
USED: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 4,
    "max_position_embeddings": 999,
    "rms_norm_eps": 1e-3,
    "rope_theta": 5000.0,
    "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0},
}
# What is the vocabulary's, the page's, training's, or how a model is called.
_NOT_THE_RESULTS = """
architectures model_type name_or_path transformers_version dtype torch_dtype attn_implementation bos_token_id
eos_token_id pad_token_id sep_token_id decoder_start_token_id tokenizer_class attention_dropout initializer_range
use_cache output_attentions output_hidden_states return_dict chunk_size_feed_forward is_encoder_decoder id2label
label2id num_labels problem_type output_router_logits router_aux_loss_coef pretraining_tp base_model_tp_plan
cache_implementation experts_implementation per_layer_config prefix task_specific_params finetuning_task
pruned_heads torchscript tf_legacy_loss use_bfloat16 tie_encoder_decoder is_decoder cross_attention_hidden_size
add_cross_attention suppress_tokens begin_suppress_tokens forced_bos_token_id forced_eos_token_id max_length
min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p typical_p
repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
num_return_sequences output_scores exponential_decay_length_penalty return_dict_in_generate remove_invalid_values
"""
WITHOUT = _NOT_THE_RESULTS.split()
