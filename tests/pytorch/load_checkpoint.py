#!/usr/bin/env python3
"""Loads a final_model.pt into the PyTorch reference with strict=True and prints its loss.

    python3 tests/pytorch/load_checkpoint.py results/sparse/final_model.pt results/sparse/config.json \\
        [--tokens tokens.npy --targets targets.npy] [--stage sparse] [--dtype float64] [--logits out.npy]

Without --targets the loss is that of predicting each next token; without --tokens the tokens are random.
"""
import argparse

import numpy as np
import torch

from reference import Config, Transformer, lm_loss


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("config")
    parser.add_argument("--tokens", help="integers [B,T]")
    parser.add_argument("--targets", help="integers [B,T]")
    parser.add_argument("--stage", choices=["dense", "sparse"], default="sparse")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--logits", help="write the logits [B,T,V] here")
    arguments = parser.parse_args()

    config = Config.load(arguments.config)
    state = torch.load(arguments.checkpoint, map_location="cpu")
    # A config may say 0 for "as many as the tokenizer has": the weights know.
    config.vocab_size = state["embed.weight"].shape[0]
    model = Transformer(config).to(getattr(torch, arguments.dtype)).eval()
    model.load_state_dict(state, strict=True)
    if arguments.tokens:
        tokens = torch.from_numpy(np.load(arguments.tokens).astype(np.int64))
    else:
        tokens = torch.randint(config.vocab_size, (2, config.max_seq_len), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out = model(tokens, arguments.stage)
    if arguments.targets:
        loss = lm_loss(out["logits"], torch.from_numpy(np.load(arguments.targets).astype(np.int64)))
    else:
        loss = lm_loss(out["logits"][:, :-1], tokens[:, 1:])
    if arguments.logits:
        np.save(arguments.logits, out["logits"].numpy())
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{arguments.checkpoint}: {config.attention}, {parameters} parameters, loaded with strict=True")
    print(f"loss {loss.item():.6f}, load balancing {out['load_balancing'].item():.6f}" +
          (f", indexer KL {out['indexer_kl'].item():.6f}" if config.is_sparse else ""))


if __name__ == "__main__":
    main()
