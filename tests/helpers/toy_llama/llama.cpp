// Writes what it was asked for, in place of a model: a line a parameter.
#include "llama.h"

#include <fstream>
#include <string>
#include <unordered_map>
#include <vector>

struct tensor_quantization {
    std::string name;
    int type;
};

extern "C" void llama_backend_init() {}

extern "C" llama_model_quantize_params llama_model_quantize_default_params() {
    return {1, 7, 100, 100, false, true, false, false, false, false, nullptr, nullptr, nullptr, nullptr};
}

extern "C" uint32_t llama_model_quantize(const char *, const char *out, const llama_model_quantize_params *params) {
    std::ofstream file(out);
    file << params->ftype << ' ' << params->output_tensor_type << ' ' << params->token_embedding_type << ' '
         << params->quantize_output_tensor << params->only_copy << params->pure << '\n';
    if (params->kv_overrides) {
        const std::vector<llama_model_kv_override> copied =
            *static_cast<std::vector<llama_model_kv_override> *>(params->kv_overrides);
        for (const auto &one : copied) {
            if (one.key[0] == 0) break;
            file << one.key << ' ' << (one.tag == 3 ? std::string(one.val_str) : std::to_string(one.val_i64)) << '\n';
        }
    }
    if (params->tensor_types)
        for (const auto &one : *static_cast<std::vector<tensor_quantization> *>(params->tensor_types))
            file << one.name << '=' << one.type << '\n';
    if (params->prune_layers)
        for (int layer : *static_cast<std::vector<int> *>(params->prune_layers)) file << "without " << layer << '\n';
    if (params->imatrix) {
        const auto &vectors = *static_cast<std::unordered_map<std::string, std::vector<float>> *>(params->imatrix);
        size_t reached = 0;
        for (const auto &one : vectors) reached += one.second.size();
        const auto found = vectors.find("blk.2.ffn_down.weight");
        file << vectors.size() << ' ' << reached << ' ' << vectors.count("blk.2") << ' '
             << (found == vectors.end() ? 0 : found->second.back()) << '\n';
    }
    return 0;
}
