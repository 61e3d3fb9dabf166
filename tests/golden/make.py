"""Write a golden file: what a released checkout computes, at tiny sizes and with random weights.

    python make.py CHECKOUT r2gen_cmn 14 r2gen_cmn.safetensors    # github.com/zhjohnchan/R2GenCMN at df4aac9b
    python make.py CHECKOUT r2gen 11 r2gen.safetensors            # github.com/zhjohnchan/R2Gen at e8cd3cfd

Nothing of RadScribe is imported: the released code is the one that speaks here.
"""

import argparse
import json
import sys
import types

import torch
from safetensors.torch import save_file

SIZES = {
    "d_model": 16,
    "d_ff": 20,
    "num_heads": 2,
    "num_layers": 1,
    "max_seq_length": 12,
    "d_vf": 10,
    "topk": 3,
    "cmm_size": 8,
    "cmm_dim": 16,
    "rm_num_slots": 2,
    "rm_num_heads": 2,
    "rm_d_model": 16,
    "vocab_tokens": 21,
}
SETTINGS = {
    "dropout": 0.1,
    "drop_prob_lm": 0.1,
    "bos_idx": 0,
    "eos_idx": 0,
    "pad_idx": 0,
    "use_bn": 0,
    "logit_layers": 1,
    "temperature": 1.0,
    "sample_n": 1,
    "group_size": 1,
    "output_logsoftmax": 1,
    "decoding_constraint": 0,
    "block_trigrams": 0,
    "length_penalty": "",
    "diversity_lambda": 0.5,
    "suppress_UNK": 0,
    "remove_bad_endings": 0,
}
DECODINGS = {
    "beam3": {"sample_method": "beam_search", "beam_size": 3},
    "greedy": {"sample_method": "greedy", "beam_size": 1},
}


def released_network(checkout: str, name: str, args: argparse.Namespace) -> torch.nn.Module:
    """The network of a checkout, without what it imports for images and its demand of a GPU."""
    sys.path.insert(0, checkout)
    for module in ("cv2", "pandas"):
        sys.modules.setdefault(module, types.ModuleType(module))
    torch.Tensor.cuda = lambda self, *_: self  # type: ignore[method-assign, assignment]
    tokenizer = types.SimpleNamespace(idx2token={id: str(id) for id in range(1, args.vocab_tokens + 1)})
    if name == "r2gen_cmn":
        from modules.base_cmn import BaseCMN as Network
    else:
        from modules.encoder_decoder import EncoderDecoder as Network
    return Network(args, tokenizer).eval()


@torch.no_grad()
def make(checkout: str, name: str, seed: int, out: str) -> None:
    """Write the golden file `out` of the architecture `name`."""
    args = argparse.Namespace(**SIZES, **SETTINGS)
    torch.manual_seed(seed)
    network = released_network(checkout, name, args)
    network.logit.weight.mul_(8)  # so that beams do not compare rounding errors
    for _, parameter in network.named_parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) * 0.05)
    if name == "r2gen_cmn":
        network.memory_matrix.normal_()
    features = torch.randn(3, 5, args.d_vf)
    tokens = torch.zeros(3, 8, dtype=torch.long)
    for row, length in enumerate((6, 4, 5)):
        tokens[row, 1 : 1 + length] = torch.randint(1, args.vocab_tokens + 1, (length,))
    found = {"output.logprobs": network(features.mean(1), features, tokens, mode="forward")}
    for decoding, options in DECODINGS.items():
        if name == "r2gen_cmn":
            drafted, _ = network(features.mean(1), features, mode="sample", update_opts=options)
        else:
            vars(args).update(options)
            drafted, _ = network(features.mean(1), features, mode="sample")
        found[f"output.{decoding}"] = drafted.contiguous()
    weights = {
        f"weights.{key}": value.clone() for key, value in network.state_dict().items() if key[-3:] != ".pe"
    }
    given = {"input.seq": tokens, "input.att_feats": features}
    save_file(weights | given | found, out, {"config": json.dumps(SIZES | SETTINGS)})


if __name__ == "__main__":
    make(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
