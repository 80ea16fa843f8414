// The parameters of llama_model_quantize as C++'s containers: llama.cpp before b8660.
#pragma once
#include <cstdint>

struct llama_model_quantize_params {
    int32_t nthread, ftype, output_tensor_type, token_embedding_type;
    bool allow_requantize, quantize_output_tensor, only_copy, pure, keep_split, dry_run;
    void *imatrix, *kv_overrides, *tensor_types, *prune_layers;
};

struct llama_model_kv_override {
    int tag;
    char key[128];
    union {
        int64_t val_i64;
        double val_f64;
        bool val_bool;
        char val_str[128];
    };
};
