"""Compares Sieve with the transformers package on tiny random models: folders that `save_pretrained` wrote, read by our
tools, and folders of ours, read by `from_pretrained`.

    python transformers_check.py REPOSITORY FOLDER     # FOLDER: an empty one, for what it writes

Prints a line a comparison and exits with 1 when one of them fails. Texts are longer than index_topk always: a wrong
indexer shows nothing before. torch.topk orders equal scores as it likes, so weights are drawn until no row's border lies
between scores that rounding could exchange.
"""
import json
import os
import subprocess
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

os.environ["HF_HUB_OFFLINE"] = "1"
import transformers  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402
from transformers import DeepseekV32Config, DeepseekV3Config, GlmMoeDsaConfig  # noqa: E402

repository, work = sys.argv[1], sys.argv[2]
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
failures = 0

TINY = dict(
    vocab_size=67, hidden_size=32, intermediate_size=40, moe_intermediate_size=20, num_hidden_layers=3,
    num_attention_heads=2, num_key_value_heads=2, n_shared_experts=1, n_routed_experts=8, num_experts_per_tok=3,
    n_group=1, topk_group=1, kv_lora_rank=16, q_lora_rank=24, qk_rope_head_dim=8, v_head_dim=12, qk_nope_head_dim=10,
    first_k_dense_replace=1, max_position_embeddings=64, initializer_range=0.15)
INDEXER = dict(index_topk=7, index_head_dim=16, index_n_heads=8)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=40.0, original_max_position_embeddings=16, beta_fast=32,
            beta_slow=1, mscale=1.0, mscale_all_dim=0.7)
CONFIGS = {"deepseek_v32": DeepseekV32Config, "glm_moe_dsa": GlmMoeDsaConfig, "deepseek_v3": DeepseekV3Config}
BATCH, LENGTH = 2, 40


def check(what, value, bound):
    global failures
    fits = value <= bound
    failures += not fits
    print(f"{'ok  ' if fits else 'FAIL'} {what}: {value:.3g}, at most {bound:.3g}", flush=True)


def expect(what, holds, why=""):
    global failures
    failures += not holds
    print(f"ok   {what}" if holds else f"FAIL {what}: {why}", flush=True)


def run(*command, status=0):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != status:
        print(f"FAIL {' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        sys.exit(1)
    return done


def make_model(model_type, seed, **changes):
    torch.manual_seed(seed)
    keys = {**TINY, **({} if model_type == "deepseek_v3" else INDEXER), **changes}
    model = AutoModelForCausalLM.from_config(CONFIGS[model_type](**keys)).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:  # norms and biases, as if trained
                parameter.uniform_(0.5, 1.5)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.uniform_(-0.3, 0.3)
    return model


class Selections:
    """What the indexers of a model select in one forward pass, and with how clear a border."""

    def __init__(self, model):
        self.masks, self.margin = [], float("inf")
        self.plain = torch.Tensor.topk

    def __enter__(self):
        def topk(scores, k, *rest, **named):
            result = self.plain(scores, k, *rest, **named)
            if scores.dim() == 3 and scores.shape[1:] == (LENGTH, LENGTH):
                self.note(scores, result[1], k)
            return result
        torch.Tensor.topk = topk
        return self

    def __exit__(self, *_):
        torch.Tensor.topk = self.plain

    def note(self, scores, indices, k):
        mask = torch.zeros(scores.shape, dtype=torch.bool).scatter(-1, indices.long(), True)
        self.masks.append((mask & torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()).numpy())
        if k == LENGTH:
            return
        rows = torch.sort(scores[:, k:, :], descending=True).values
        self.margin = min(self.margin, (rows[..., k - 1] - rows[..., k]).min().item())


def random_tokens(model, seed):
    torch.manual_seed(1000 + seed)
    return torch.randint(0, model.config.vocab_size, (2, BATCH, LENGTH))


def clear_case(make):
    """A model, tokens and targets whose selections do not hang on rounding."""
    for seed in range(1, 30):
        model = make(seed)
        tokens, targets = random_tokens(model, seed)
        with Selections(model) as selections, torch.no_grad():
            model(tokens)
        if selections.margin > 2e-5:
            return model, tokens, targets
    raise SystemExit("FAIL no weights without ties")


def parity(folder, tokens, targets, extra=()):
    out = os.path.join(work, "parity")
    for name, values in (("tokens", tokens), ("targets", targets)):
        np.save(os.path.join(work, name + ".npy"), values.int().numpy())
    done = run(repository + "/tools/parity", "--checkpoint", folder, "--tokens", work + "/tokens.npy", "--targets",
               work + "/targets.npy", "--out", out, *extra)
    return out, done.stderr


def our_name(name):
    """Of one of transformers' parameters, written down apart from Sieve's table."""
    for theirs, ours in (("model.embed_tokens", "embed"), ("model.layers.", "blocks."), ("model.norm", "norm"),
                         ("input_layernorm", "norm1"), ("post_attention_layernorm", "norm2"),
                         ("self_attn.", "attention."), ("o_proj", "w_o"), ("indexer.wq_b", "indexer.q_proj"),
                         ("indexer.wk", "indexer.k_proj"), ("indexer.weights_proj", "indexer.w_proj"),
                         ("mlp.gate.", "feed_forward.router.gate."), ("mlp.", "feed_forward."),
                         ("gate_proj", "linear1"), ("up_proj", "linear3"), ("down_proj", "linear2")):
        name = name.replace(theirs, ours)
    return name


def their_gradients(model):
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        if name.endswith("experts.gate_up_proj"):
            for e, (gate, up) in enumerate(g.chunk(2) for g in parameter.grad):
                prefix = our_name(name[:-len("gate_up_proj")])
                yield f"{prefix}{e}.linear1.weight", gate
                yield f"{prefix}{e}.linear3.weight", up
        elif name.endswith("experts.down_proj") and parameter.dim() == 3:
            for e, down in enumerate(parameter.grad):
                yield f"{our_name(name[:-len('down_proj')])}{e}.linear2.weight", down
        else:
            yield our_name(name), parameter.grad


def compare_gradients(what, model, logits, targets, out):
    model.zero_grad()
    F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1)).backward()
    ours = torch.load(out + "/grads.pt", weights_only=True)
    worst, count = 0.0, 0
    for name, theirs in their_gradients(model):
        if name not in ours:
            print(f"FAIL {what}: no gradient of {name}")
            sys.exit(1)
        count += 1
        worst = max(worst, ((ours[name] - theirs).abs().max() / theirs.abs().max().clamp(min=1e-6)).item())
    expect(f"{what}: gradients of {count} tensors", count >= 30, "too few")
    check(f"{what}: gradients, relative to each tensor's largest", worst, 1e-4)


def compare(what, folder, model, tokens, targets, gradients=True):
    """Our logits, selections and gradients of the folder with those of the model."""
    out, said = parity(folder, tokens, targets)
    with Selections(model) as selections:
        logits = model(tokens).logits
    ours = torch.from_numpy(np.load(out + "/logits.npy"))
    expect(f"{what}: logits that say something", logits.abs().max().item() > 1, f"{logits.abs().max().item()}")
    check(f"{what}: logits", (ours - logits).abs().max().item(), 1e-4)
    full = [i for i in range(model.config.num_hidden_layers)
            if getattr(model.config, "indexer_types", None) is None or model.config.indexer_types[i] == "full"]
    for layer, mask in zip(full, selections.masks):
        same = np.array_equal(np.load(f"{out}/selected_{layer}.npy"), mask)
        expect(f"{what}: selections of layer {layer}", same, "differ")
    if gradients:
        compare_gradients(what, model, logits, targets, out)
    return said


def folder_of(name):
    return os.path.join(work, name)


def check_saved(name, model_type, save=None, gradients=True, **changes):
    model, tokens, targets = clear_case(lambda seed: make_model(model_type, seed, **changes))
    folder = folder_of(name)
    model.save_pretrained(folder, **(save or {}))
    compare(name, folder, model, tokens, targets, gradients)
    return folder, model, tokens, targets


def check_reading():
    check_saved("v32", "deepseek_v32")
    check_saved("v32_tied", "deepseek_v32", tie_word_embeddings=True, first_k_dense_replace=0)
    check_saved("v32_everything", "deepseek_v32", rms_norm_eps=1e-2, index_head_dim=20, n_group=4, topk_group=2,
                norm_topk_prob=False, attention_bias=True, rope_parameters=YARN, n_shared_experts=2,
                mlp_layer_types=["sparse", "dense", "sparse"])
    check_saved("v32_groups", "deepseek_v32", n_group=2, topk_group=1, routed_scaling_factor=1.7)
    check_saved("glm", "glm_moe_dsa")
    check_saved("glm_shared", "glm_moe_dsa", num_hidden_layers=4, indexer_types=["full", "shared", "full", "shared"],
                rope_parameters={**YARN, "mscale": None, "mscale_all_dim": None}, n_group=2, topk_group=1)
    check_saved("glm_pattern", "glm_moe_dsa", num_hidden_layers=5, index_topk_freq=2, index_skip_topk_offset=2)
    check_saved("v3", "deepseek_v3")
    check_saved("v3_no_query_latent", "deepseek_v3", q_lora_rank=None, attention_bias=True, tie_word_embeddings=True,
                rope_parameters={**YARN, "mscale_all_dim": None})
    check_saved("sharded", "deepseek_v32", {"max_shard_size": "60KB"})
    expect("sharded: several files", len([f for f in os.listdir(folder_of("sharded")) if f.startswith("model-")]) > 2)
    check_saved("fused", "deepseek_v32", {"save_original_format": False})
    expect("fused: experts in one tensor",
           any(n.endswith("experts.gate_up_proj") for n in load_file(folder_of("fused") + "/model.safetensors")))
    check_saved("fused_sharded", "glm_moe_dsa", {"save_original_format": False, "max_shard_size": "40KB"})


def check_bf16():
    def make(seed):
        return make_model("deepseek_v32", seed).to(torch.bfloat16)
    folder = folder_of("bf16")

    def reloaded(seed):
        make(seed).save_pretrained(folder)
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model, tokens, targets = clear_case(reloaded)
    dtypes = {str(t.dtype) for t in load_file(folder + "/model.safetensors").values()}
    expect("bf16: in the file", "torch.bfloat16" in dtypes, str(dtypes))
    compare("bf16", folder, model, tokens, targets)


def quantised(weight):
    """E4M3 in blocks of 128 x 128, their scales, and what they stand for."""
    scales = torch.zeros([(n + 127) // 128 for n in weight.shape])
    stored, meant = torch.zeros(weight.shape, dtype=torch.float8_e4m3fn), torch.zeros(weight.shape)
    for r in range(scales.shape[0]):
        for c in range(scales.shape[1]):
            rows, columns = slice(128 * r, 128 * r + 128), slice(128 * c, 128 * c + 128)
            scales[r, c] = weight[rows, columns].abs().max() / 448
            stored[rows, columns] = (weight[rows, columns] / scales[r, c]).to(torch.float8_e4m3fn)
            meant[rows, columns] = stored[rows, columns].float() * scales[r, c]
    return stored, scales, meant


def check_fp8():
    folder = folder_of("fp8")

    def make(seed):
        model = make_model("deepseek_v32", seed, hidden_size=136, q_lora_rank=130, moe_intermediate_size=140,
                           intermediate_size=300, initializer_range=0.08)
        model.save_pretrained(folder)
        tensors = load_file(folder + "/model.safetensors")
        meant = {}
        for name in list(tensors):
            if tensors[name].dim() == 2 and "layers" in name and "gate.weight" not in name and "weights_proj" not in name:
                tensors[name], tensors[name + "_scale_inv"], meant[name] = quantised(tensors[name])
        save_file({**tensors, **meant_only(tensors, meant)}, folder + "/model.safetensors", {"format": "pt"})
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        save_file(tensors, folder + "/model.safetensors", {"format": "pt"})
        config = json.load(open(folder + "/config.json"))
        config["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128],
                                         "activation_scheme": "dynamic"}
        json.dump(config, open(folder + "/config.json", "w"))
        return model

    def meant_only(tensors, meant):
        for name in [n for n in tensors if n.endswith("_scale_inv")]:
            meant[name] = torch.zeros(1)
        return meant
    model, tokens, targets = clear_case(make)
    compare("fp8", folder, model, tokens, targets)


def check_prediction_layers():
    model, tokens, targets = clear_case(lambda seed: make_model("deepseek_v32", seed))
    folder = folder_of("mtp")
    model.save_pretrained(folder)
    tensors = load_file(folder + "/model.safetensors")
    tensors |= {"model.layers.3.eh_proj.weight": torch.zeros(32, 64), "model.layers.3.enorm.weight": torch.zeros(32)}
    save_file(tensors, folder + "/model.safetensors", {"format": "pt"})
    said = compare("mtp", folder, model, tokens, targets)
    expect("mtp: said once", said.count("2 tensors of layer 3 behind the last are left out") == 1, said)


OUR_KEYS = dict(vocab_size="vocab_size", hidden_size="d_model", intermediate_size="dense_d_ff",
                moe_intermediate_size="d_ff", num_hidden_layers="n_layers", num_attention_heads="n_heads",
                n_shared_experts="shared_experts", n_routed_experts="num_experts",
                routed_scaling_factor="routed_scaling_factor", kv_lora_rank="kv_lora_rank", q_lora_rank="q_lora_rank",
                qk_rope_head_dim="qk_rope_head_dim", v_head_dim="v_head_dim", qk_nope_head_dim="qk_nope_head_dim",
                n_group="n_group", topk_group="topk_group", num_experts_per_tok="expert_top_k",
                norm_topk_prob="norm_topk_prob", initializer_range="init_std", rms_norm_eps="norm_eps",
                tie_word_embeddings="tie_embeddings", attention_bias="attention_bias", index_topk="sparse_top_k",
                index_head_dim="indexer_dim", index_n_heads="indexer_heads")


def our_config(document):
    import tomllib
    folder = folder_of("config_alone")
    os.makedirs(folder, exist_ok=True)
    json.dump(document, open(folder + "/config.json", "w"))
    done = run(repository + "/experiments/exp4", "--init_from", folder, "--max_seq_len", 10000000, "--print_config")
    return tomllib.loads(done.stdout)


def check_defaults():
    """A key that is absent means what the package's class says."""
    for model_type, config_class in CONFIGS.items():
        package, ours = config_class(), our_config({"model_type": model_type})
        for theirs, key in OUR_KEYS.items():
            if hasattr(package, theirs):
                expect(f"{model_type}: default of {theirs}", getattr(package, theirs) == ours[key],
                       f"{getattr(package, theirs)} and {ours[key]}")
        types = getattr(package, "mlp_layer_types", None) or [
            "dense" if i < package.first_k_dense_replace else "sparse" for i in range(package.num_hidden_layers)]
        expect(f"{model_type}: default layers",
               ours["ffn_layers"] == "".join("D" if t == "dense" else "M" for t in types), ours["ffn_layers"])
        expect(f"{model_type}: default RoPE", ours["rope_base"] == package.rope_parameters["rope_theta"])
    # Older files, and those of released models.
    old = {"model_type": "deepseek_v32", "rope_theta": 5000, "rope_scaling": {**YARN, "type": "yarn"}}
    del old["rope_scaling"]["rope_type"], old["rope_scaling"]["rope_theta"]
    package, ours = DeepseekV32Config(**{k: v for k, v in old.items() if k != "model_type"}), our_config(old)
    expect("older RoPE keys", package.rope_parameters["rope_theta"] == ours["rope_base"] == 5000
           and package.rope_parameters["rope_type"] == ours["rope_scaling"] == "yarn"
           and ours["rope_mscale_all_dim"] == 0.7, str(package.rope_parameters))
    for keys in ({"index_topk_freq": 4}, {"index_topk_freq": 3, "index_skip_topk_offset": 1},
                 {"index_topk_pattern": "FFSS" * 20}, {"index_topk_freq": 2, "index_skip_topk_offset": 4}):
        package, ours = GlmMoeDsaConfig(**keys), our_config({"model_type": "glm_moe_dsa", **keys})
        letters = "".join("F" if t == "full" else "S" for t in package.indexer_types)[:78]
        expect(f"shared indexers of {keys}", ours["index_share"] == letters, ours["index_share"])


def check_training(name, folder, stages, keys, steps=20):
    """Loaded by us, trained, written, loaded by transformers: the logits of our own file."""
    initial = load_file(folder + "/model.safetensors")
    results = folder_of(name + "_results")
    run(repository + "/experiments/exp4", "--init_from", folder, "--data", repository + "/data/excerpt", "--tokenizer",
        work + "/tokenizer.json", "--results_dir", results, "--stages", stages, "--classic_steps", steps,
        "--sparse_steps", steps, "--warmup_steps", 5, "--max_seq_len", LENGTH, "--batch_size", 2, "--max_tokens", 4000,
        "--eval_batches", 1, "--learning_rate", "1e-3", "--threads", 1, "--cache_dir", "", *keys)
    for stage in stages.split(","):
        trained = f"{results}/{stage}"
        for options in ((), ("--max_shard_mb", 1, "--dtype", "bf16")):
            output = folder_of("exported")  # the one before is replaced
            run(repository + "/tools/export_model", "--checkpoint", trained, "--output", output + "/", *options)
            model = AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32)
            if options and model.config.vocab_size > 5000:
                expect(f"{name} {stage}: shards", os.path.exists(output + "/model.safetensors.index.json"))
            expect(f"{name} {stage}: another model than before", any(
                not torch.equal(t, initial[n]) for n, t in model.state_dict().items() if "q_b_proj" in n))
            compare_export(f"{name} {stage} {' '.join(map(str, options))}", trained, output, model, exact=not options)


def compare_export(what, trained, output, model, exact):
    tokens, targets = random_tokens(model, 7)
    with Selections(model) as selections, torch.no_grad():
        logits = model(tokens).logits
    own = ("--config", trained + "/config.json") if exact else ()
    out, _ = parity(trained + "/final_model.pt" if exact else output, tokens, targets, own)
    difference = (torch.from_numpy(np.load(out + "/logits.npy")) - logits).abs().amax(-1)
    # Rows before one whose border rounding may move.
    rows = LENGTH if selections.margin > 1e-5 else INDEXER["index_topk"]
    check(f"{what}: logits of {rows} rows", difference[:, :rows].max().item(), 1e-4)
    expect(f"{what}: tokenizer", AutoTokenizer.from_pretrained(output).encode("and then", add_special_tokens=False) ==
           tokenizer_ids("and then"))


def tokenizer_ids(text):
    from tokenizers import Tokenizer
    return Tokenizer.from_file(work + "/tokenizer.json").encode(text).ids


def make_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, decoders, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(["and then he said that she had been there"] * 9, trainers.BpeTrainer(
        vocab_size=270, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.save(work + "/tokenizer.json")


def check_writing():
    make_tokenizer()
    larger = dict(vocab_size=300, index_n_heads=8)
    for name, model_type, stages, changes in (
            ("trained_v32", "deepseek_v32", "classic,sparse", dict(first_k_dense_replace=1, n_group=2, topk_group=1)),
            ("trained_glm", "glm_moe_dsa", "sparse", dict(indexer_types=["full", "shared", "full"], attention_bias=True,
                                                          tie_word_embeddings=True, rope_parameters=YARN)),
            ("trained_v3", "deepseek_v3", "classic,sparse", dict(first_k_dense_replace=2, vocab_size=9000))):
        changes, keys = {**larger, **changes}, ()
        if model_type == "deepseek_v3":  # the indexer of the sparse model is new
            del changes["index_n_heads"]
            keys = ("--sparse_top_k", INDEXER["index_topk"], "--indexer_heads", 8, "--indexer_dim", 16)
        make_model(model_type, 3, **changes).save_pretrained(folder_of(name))
        check_training(name, folder_of(name), stages, keys)


for part in (check_defaults, check_reading, check_bf16, check_fp8, check_prediction_layers, check_writing):
    part()
print(f"transformers {transformers.__version__}, torch {torch.__version__}: {failures} failures")
sys.exit(failures > 0)
