"""The model of DSA.md in plain PyTorch: the oracle that the C++ model is compared with.

Written for clarity, with materialised T x T scores, and with the parameter names of the original experiment, so that a
state dict fits both ways with strict=True. It differs from the original in two places, on purpose: the selector is
causal unless i_know_this_leaks says otherwise (the original lets early rows read future tokens), and ties go to the lower
index. Works with torch 1.13 to 2.x.
"""
import json
import math

import torch
import torch.nn.functional as F
from torch import nn

DEFAULTS = dict(vocab_size=4096, attention="classic", d_model=256, n_heads=8, n_layers=6, d_ff=512, max_seq_len=128,
                num_experts=4, expert_top_k=2, indexer="plain", indexer_heads=4, indexer_dim=64, sparse_top_k=64,
                i_know_this_leaks=False, indexer_weights="on", indexer_scale=0.0, indexer_warmup="kl", indexer_loss="selected", load_balancing_weight=0.01, indexer_loss_weight=1.0,
                dropout=0.1, router_noise=0.1,
                norm_eps=1.1920929e-07, rope_base=10000.0, attention_type="mha", n_kv_heads=2, shared_experts=0,
                ffn="silu", router="softmax", router_weights="selected", routed_scaling_factor=1.0, q_lora_rank=0, kv_lora_rank=64, qk_nope_head_dim=32,
                qk_rope_head_dim=16, v_head_dim=32, tie_embeddings=True, ffn_layers="", dense_d_ff=0, latent_norm_eps=0.0,
                attention_bias=False, norm_topk_prob=True, n_group=1, topk_group=1, rope_scaling="none", rope_factor=1.0,
                rope_original_max_seq_len=0, rope_beta_fast=32.0, rope_beta_slow=1.0, rope_mscale=0.0, rope_mscale_all_dim=0.0,
                indexer_rope_dim=0, indexer_rope_layout="half", index_share="", index_share_loss="own")

PRESETS = {
    "small": dict(d_model=128, n_heads=4, n_layers=4, d_ff=256, max_seq_len=64, batch_size=32, num_experts=2,
                  expert_top_k=1, router_weights="straight_through", indexer_heads=2, indexer_dim=32, sparse_top_k=32,
                  learning_rate=3e-3),
    "medium": dict(d_model=256, n_heads=8, n_layers=6, d_ff=512, max_seq_len=128, batch_size=16, num_experts=4,
                   expert_top_k=2, indexer_heads=4, indexer_dim=64, sparse_top_k=64, learning_rate=3e-3),
    "large": dict(d_model=512, n_heads=16, n_layers=12, d_ff=1024, max_seq_len=256, batch_size=8, num_experts=8,
                  expert_top_k=2, indexer_heads=8, indexer_dim=128, sparse_top_k=128, learning_rate=1e-3),
}


class Config:
    """Keys of config.json as attributes; keys that the model does not use are kept and ignored."""

    def __init__(self, **keys):
        for key, value in {**DEFAULTS, **keys}.items():
            setattr(self, key, value)
        for key, known in (("attention", ("classic", "sparse")), ("indexer", ("plain", "deepseek")),
                           ("indexer_weights", ("on", "off")),
                           ("indexer_warmup", ("kl", "entropy")), ("indexer_loss", ("selected", "full_row")),
                           ("attention_type", ("mha", "gqa", "mla")), ("ffn", ("silu", "swiglu")),
                           ("router", ("softmax", "sigmoid_bias")), ("rope_scaling", ("none", "yarn")),
                           ("indexer_rope_layout", ("half", "interleaved")), ("index_share_loss", ("own",)),
                           ("router_weights", ("selected", "all", "scaled", "straight_through"))):
            if getattr(self, key) not in known:
                raise ValueError(f"{key}: '{getattr(self, key)}', want {' or '.join(known)}")

    @staticmethod
    def load(path):
        with open(path) as file:
            return Config(**json.load(file))

    @property
    def is_sparse(self):
        return self.attention == "sparse"

    def top_k_of_layer(self, layer):
        """sparse_top_k is one number, or a list with one for each layer."""
        return self.sparse_top_k[layer] if isinstance(self.sparse_top_k, list) else self.sparse_top_k

    def scale_of_indexer(self):
        """0 stands for the kind's own: 1 for plain, HI^-0.5 dI^-0.5 for deepseek."""
        own = 1.0 if self.indexer == "plain" else (self.indexer_heads * self.indexer_dim) ** -0.5
        return self.indexer_scale or own


class RMSNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def yarn_magnitude(factor, weight):
    return 0.1 * weight * math.log(factor) + 1


def yarn_frequencies(config, dims, frequency):
    """YaRN: the frequencies of pairs that turn often within the original length stay, those of pairs that turn seldom are
    divided by the factor, with a ramp between."""
    def pair_that_turns(times):
        return dims * math.log(config.rope_original_max_seq_len / (2 * math.pi * times)) / (2 * math.log(config.rope_base))

    low = max(math.floor(pair_that_turns(config.rope_beta_fast)), 0)
    high = min(math.ceil(pair_that_turns(config.rope_beta_slow)), dims - 1)
    ramp = ((torch.arange(dims // 2, dtype=torch.float64) - low) / (high - low or 0.001)).clamp(0, 1)
    return torch.lerp(frequency, frequency / config.rope_factor, ramp)


class Rope:
    """The rotations of a model's queries and keys."""

    def __init__(self, config):
        self.config = config
        self.magnitude = 1.0
        if config.rope_scaling == "yarn":
            both = config.rope_mscale and config.rope_mscale_all_dim
            self.magnitude = (yarn_magnitude(config.rope_factor, config.rope_mscale if both else 1)
                              / (yarn_magnitude(config.rope_factor, config.rope_mscale_all_dim) if both else 1))

    def score_factor(self):
        """What YaRN multiplies attention scores with."""
        weight = self.config.rope_mscale_all_dim if self.config.rope_scaling == "yarn" else 0
        return yarn_magnitude(self.config.rope_factor, weight) ** 2 if weight else 1.0

    def tables(self, x, dims):
        """cos and sin [T, 1, dims/2]: angles in float64, rounded once."""
        frequency = self.config.rope_base ** (-torch.arange(0, dims, 2, dtype=torch.float64) / dims)
        if self.config.rope_scaling == "yarn":
            frequency = yarn_frequencies(self.config, dims, frequency)
        angle = torch.arange(x.shape[1], dtype=torch.float64)[:, None, None] * frequency
        return (self.magnitude * angle.cos()).to(x), (self.magnitude * angle.sin()).to(x)

    def interleaved(self, x, dims=None):
        """x [B,T,H,dh]: rotates the pairs (x[2i], x[2i+1]) of its first `dims` dims, or of all."""
        dims = dims or x.shape[3]
        cos, sin = self.tables(x, dims)
        even, odd = x[..., 0:dims:2], x[..., 1:dims:2]
        turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)
        return torch.cat((turned, x[..., dims:]), -1)

    def half_split(self, x, dims):
        """x [B,T,H,dI]: rotates the pairs (x[i], x[i + dims/2]) of its first `dims` dims."""
        cos, sin = self.tables(x, dims)
        a, b, rest = x[..., :dims // 2], x[..., dims // 2:dims], x[..., dims:]
        return torch.cat((a * cos - b * sin, a * sin + b * cos, rest), -1)


def row_invariant_product(a, b):
    """a [...,M,n] times b [...,N,n] transposed, such that equal rows give equal bits wherever they lie. A BLAS does not
    promise that, and then the scores of equal tokens, which tie by definition, would differ in their last bits."""
    return (a[..., :, None, :] * b[..., None, :, :]).sum(-1)


class Indexer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads, self.dim = config.indexer_heads, config.indexer_dim
        self.scale = config.scale_of_indexer()
        self.rope_dims = config.indexer_rope_dim or self.dim // 2
        self.rotate = getattr(Rope(config), "interleaved" if config.indexer_rope_layout == "interleaved" else "half_split")
        self.is_deepseek = config.indexer == "deepseek"
        q_width = config.d_model
        if self.is_deepseek and config.attention_type == "mla" and config.q_lora_rank:
            q_width = config.q_lora_rank
        self.q_proj = nn.Linear(q_width, self.heads * self.dim, bias=False)
        self.k_proj = nn.Linear(config.d_model, self.dim, bias=False)
        self.w_proj = nn.Linear(config.d_model, self.heads, bias=False) if config.indexer_weights == "on" else None
        if self.is_deepseek:
            self.k_norm = nn.LayerNorm(self.dim, eps=1e-6)

    def forward(self, x, query_latent, exact_ties=True):
        """I [B,T,T], future positions included. The inputs are detached: no gradient leaves the indexer. DeepSeek's
        makes its queries from the attention's query latent, which is x where there is none."""
        product = row_invariant_product if exact_ties else (lambda a, b: a @ b.transpose(-1, -2))
        x = x.detach()
        source = query_latent.detach() if self.is_deepseek else x
        q = product(source, self.q_proj.weight).view(*x.shape[:2], self.heads, self.dim)
        k = product(x, self.k_proj.weight)
        w = product(x, self.w_proj.weight) if self.w_proj is not None else x.new_ones(*x.shape[:2], self.heads)
        if self.is_deepseek:
            q = self.rotate(q, self.rope_dims)
            k = self.rotate(self.k_norm(k)[:, :, None], self.rope_dims)[:, :, 0]
        # One head at a time, so that [B,T,T] is the largest thing kept.
        return self.scale * sum(w[:, :, j, None] * F.relu(product(q[:, :, j], k)) for j in range(self.heads))


def causal_mask(length, device):
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def select_causal(scores, k, exact_ties=True):
    """Mask [B,T,T] of the min(k, t+1) best keys s <= t of each row, by (score descending, index ascending)."""
    length = scores.shape[-1]
    causal = causal_mask(length, scores.device)
    masked = scores.detach().masked_fill(~causal, float("-inf"))
    k = min(k, length)
    if exact_ties:
        order = torch.sort(masked, dim=-1, descending=True, stable=True)[1][..., :k]
    else:
        order = torch.topk(masked, k, dim=-1, sorted=False)[1]
    return torch.zeros_like(masked, dtype=torch.bool).scatter_(-1, order, True) & causal


def select_as_the_original(scores, k):
    """Mask [B,T,T] as the original experiment makes it: scores of the future become -1e9, exactly k keys are taken for every
    row, and all of them are read, those of the future too."""
    masked = scores.detach().masked_fill(~causal_mask(scores.shape[-1], scores.device), -1e9)
    order = torch.sort(masked, dim=-1, descending=True, stable=True)[1][..., :k]
    return torch.zeros_like(masked, dtype=torch.bool).scatter_(-1, order, True)


def alignment_loss(scores, probabilities, allowed):
    """mean over rows of KL(mean over heads of probabilities || softmax of scores), both over the allowed keys."""
    p = probabilities.detach().mean(1)
    log_q = F.log_softmax(scores.masked_fill(~allowed, float("-inf")), -1).masked_fill(~allowed, 0)
    terms = torch.xlogy(p, p) - p * log_q
    return terms.sum(-1).mean()


def entropy_loss(scores, allowed):
    """mean over rows of log(number of allowed keys) - entropy of softmax of scores, over the allowed keys."""
    log_q = F.log_softmax(scores.masked_fill(~allowed, float("-inf")), -1).masked_fill(~allowed, 0)
    negative_entropy = (log_q.exp() * log_q).masked_fill(~allowed, 0).sum(-1)
    return (allowed.sum(-1).to(scores.dtype).log() + negative_entropy).mean()


class Attention(nn.Module):
    """What the attention types share; a subclass says how x becomes q, k and v."""

    def __init__(self, config, layer):
        super().__init__()
        self.heads, self.rope, self.top_k = config.n_heads, Rope(config), config.top_k_of_layer(layer)
        self.leaks = config.i_know_this_leaks
        self.indexer = Indexer(config) if config.is_sparse and config.index_share[layer:layer + 1] != "S" else None
        self.warmup, self.loss_over = config.indexer_warmup, config.indexer_loss

    def query_latent(self, x):
        """What DeepSeek's indexer makes its queries from."""
        return x

    def forward(self, x, stage, exact_ties=True, shared=None):
        """-> y [B,T,d], the indexer's loss or None, selection mask [B,T,T] or None. shared: the mask of the layer whose
        indexer chooses for this one, which has none."""
        q, k, v = self.project(x)
        causal = allowed = causal_mask(x.shape[1], x.device).expand(x.shape[0], -1, -1)
        scores = self.indexer(x, self.query_latent(x), exact_ties) if self.indexer is not None else None
        selected = None
        if scores is not None and stage == "sparse":
            allowed = selected = select_causal(scores, self.top_k, exact_ties)
        elif shared is not None:
            allowed = selected = shared
        z = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) * self.rope.score_factor()
        a = z.masked_fill(~allowed[:, None], float("-inf")).softmax(-1)
        loss = None
        if scores is not None:
            if stage == "dense" and self.warmup == "entropy":
                loss = entropy_loss(scores, causal)
            elif stage == "sparse" and self.loss_over == "full_row":
                loss = alignment_loss(scores, z.masked_fill(~causal[:, None], float("-inf")).softmax(-1), causal)
            else:
                loss = alignment_loss(scores, a, allowed)
        if self.leaks and selected is not None:  # the indexer's loss keeps to the keys that it chose
            a = z.masked_fill(~select_as_the_original(scores, self.top_k)[:, None], float("-inf")).softmax(-1)
        return self.w_o((a @ v).transpose(1, 2).flatten(2)), loss, selected


class GroupedQueryAttention(Attention):
    """Multi-head attention, and grouped-query attention with fewer key and value heads."""

    def __init__(self, config, layer):
        super().__init__(config, layer)
        self.kv_heads = config.n_kv_heads if config.attention_type == "gqa" else config.n_heads
        width = config.d_model // config.n_heads
        self.qkv = nn.Linear(config.d_model, (self.heads + 2 * self.kv_heads) * width, bias=False)
        self.w_o = nn.Linear(config.d_model, config.d_model, bias=False)

    def project(self, x):
        """q, k, v, each [B,H,T,dh], q and k rotated; the query heads of a group see the same key and value head."""
        parts = self.qkv(x).view(*x.shape[:2], self.heads + 2 * self.kv_heads, -1)
        q, k, v = parts.split([self.heads, self.kv_heads, self.kv_heads], 2)
        q, k = self.rope.interleaved(q), self.rope.interleaved(k)
        if self.kv_heads != self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, 2) for t in (k, v))
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


class LatentAttention(Attention):
    """Multi-head latent attention with every head's keys and values written out, which the C++ model never does.
    Parameter names as in Hugging Face's DeepSeek-V3; RoPE on interleaved pairs, as in DeepSeek's own code."""

    def __init__(self, config, layer):
        super().__init__(config, layer)
        self.nope, self.rotated, self.value = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
        self.q_rank, self.kv_rank = config.q_lora_rank, config.kv_lora_rank
        queries = self.heads * (self.nope + self.rotated)
        bias, eps = config.attention_bias, config.latent_norm_eps or config.norm_eps
        if self.q_rank:
            self.q_a_proj = nn.Linear(config.d_model, self.q_rank, bias=bias)
            self.q_a_layernorm = RMSNorm(self.q_rank, eps)
            self.q_b_proj = nn.Linear(self.q_rank, queries, bias=False)
        else:
            self.q_proj = nn.Linear(config.d_model, queries, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(config.d_model, self.kv_rank + self.rotated, bias=bias)
        self.kv_a_layernorm = RMSNorm(self.kv_rank, eps)
        self.kv_b_proj = nn.Linear(self.kv_rank, self.heads * (self.nope + self.value), bias=False)
        self.w_o = nn.Linear(self.heads * self.value, config.d_model, bias=bias)

    def query_latent(self, x):
        return self.q_a_layernorm(self.q_a_proj(x)) if self.q_rank else x

    def project(self, x):
        """q and k [B,H,T,nope+rotated], v [B,H,T,value]."""
        shape = (*x.shape[:2], self.heads, -1)
        q = (self.q_b_proj if self.q_rank else self.q_proj)(self.query_latent(x)).view(shape)
        q_nope, q_rope = q.split([self.nope, self.rotated], -1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([self.kv_rank, self.rotated], -1)
        k_nope, v = self.kv_b_proj(self.kv_a_layernorm(latent)).view(shape).split([self.nope, self.value], -1)
        k_rope = self.rope.interleaved(k_rope[:, :, None]).expand(-1, -1, self.heads, -1)
        q = torch.cat((q_nope, self.rope.interleaved(q_rope)), -1)
        k = torch.cat((k_nope, k_rope), -1)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


class Expert(nn.Module):
    def __init__(self, config, width):
        super().__init__()
        self.linear1 = nn.Linear(config.d_model, width, bias=False)
        self.linear2 = nn.Linear(width, config.d_model, bias=False)
        self.linear3 = nn.Linear(config.d_model, width, bias=False) if config.ffn == "swiglu" else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        hidden = F.silu(self.linear1(x))
        if self.linear3 is not None:
            hidden = hidden * self.linear3(x)
        return self.linear2(self.dropout(hidden))


class Router(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.num_experts, bias=False)
        self.top_k, self.noise = config.expert_top_k, config.router_noise
        self.scaling, self.normalised = config.routed_scaling_factor, config.norm_topk_prob
        self.groups, self.top_groups = config.n_group, config.topk_group
        self.is_sigmoid = config.router == "sigmoid_bias"
        self.kind = config.router_weights
        if self.is_sigmoid:
            self.gate.register_buffer("e_score_correction_bias", torch.zeros(config.num_experts))

    def forward(self, x):
        """x [N,d] -> weights [N,top_k], experts [N,top_k], load-balancing loss."""
        logits = self.gate(x)
        if self.training and self.noise > 0:
            logits = logits + self.noise * torch.randn_like(logits)
        scores = logits.sigmoid() if self.is_sigmoid else logits
        ranked = scores.detach() + self.gate.e_score_correction_bias if self.is_sigmoid else scores
        if self.groups > 1:
            ranked = self.of_best_groups(ranked)
        experts = torch.sort(ranked, dim=-1, descending=True, stable=True)[1][:, :self.top_k]
        best = scores.gather(-1, experts)
        if self.is_sigmoid:
            weights = self.scaling * (best / (best.sum(-1, keepdim=True) + 1e-20) if self.normalised else best)
            probabilities = scores / (scores.sum(-1, keepdim=True) + 1e-20)
        else:
            probabilities = logits.softmax(-1)
            weights = self.softmax_weights(best, probabilities.gather(-1, experts), logits.shape[1])
        share = torch.bincount(experts.flatten(), minlength=logits.shape[1]).to(logits) / experts.numel()
        balance = logits.shape[1] * (share * probabilities.mean(0)).sum()
        return weights, experts, balance

    def of_best_groups(self, ranked):
        """Scores [N,E] of the top_groups groups whose best two experts have the largest sum; -inf elsewhere."""
        grouped = ranked.unflatten(-1, (self.groups, -1))
        order = torch.sort(grouped.topk(2, -1)[0].sum(-1), dim=-1, descending=True, stable=True)[1][:, :self.top_groups]
        kept = torch.zeros_like(grouped[..., 0], dtype=torch.bool).scatter_(1, order, True)
        return grouped.masked_fill(~kept[..., None], float("-inf")).flatten(1)

    def softmax_weights(self, best, chosen, num_experts):
        """best, chosen [N,top_k]: logits and probabilities of the selected experts."""
        if self.kind == "all":
            return chosen
        if self.kind == "scaled":
            return num_experts * chosen
        weights = best.softmax(-1)
        if self.kind == "straight_through":  # the value stays, the gradient is w d(log p)
            log_p = chosen.log()
            weights = weights.detach() * (log_p - log_p.detach()).exp()
        return weights


class MixtureOfExperts(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.router = Router(config)
        self.experts = nn.ModuleList(Expert(config, config.d_ff) for _ in range(config.num_experts))
        self.shared_experts = Expert(config, config.shared_experts * config.d_ff) if config.shared_experts else None

    def forward(self, x):
        rows = x.flatten(0, 1)
        weights, chosen, balance = self.router(rows)
        y = torch.zeros_like(rows)
        for e, expert in enumerate(self.experts):
            token, slot = (chosen == e).nonzero(as_tuple=True)
            part = expert(rows[token]) * weights[token, slot, None]
            y = y.index_add(0, token, part.to(y.dtype))  # below autocast an expert's output has another dtype
        if self.shared_experts is not None:
            y = y + self.shared_experts(rows)
        return y.view_as(x), balance


class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.norm1 = RMSNorm(config.d_model, config.norm_eps)
        self.attention = (LatentAttention if config.attention_type == "mla" else GroupedQueryAttention)(config, layer)
        self.norm2 = RMSNorm(config.d_model, config.norm_eps)
        self.is_dense = config.ffn_layers[layer:layer + 1] == "D"
        self.feed_forward = Expert(config, config.dense_d_ff or config.d_ff) if self.is_dense else MixtureOfExperts(config)
        self.dropout = nn.Dropout(config.dropout)


class Transformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed.weight
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, tokens, stage="sparse", exact_ties=True):
        """tokens [B,T]; stage "dense" or "sparse" says what a sparse model's attention reads; exact_ties=False is
        faster and leaves the order of equal scores open. Returns a dict:
        logits [B,T,V]; load_balancing, already weighted; indexer_kl, the mean over indexers; selected, a mask each."""
        h = self.embed(tokens)
        balance, kl, selected, mask = h.new_zeros(()), 0.0, [], None
        indexers = sum(block.attention.indexer is not None for block in self.blocks)
        for block in self.blocks:
            y, loss, mask = block.attention(block.norm1(h), stage, exact_ties, mask)
            h = h + block.dropout(y)
            if block.is_dense:
                y = block.feed_forward(block.norm2(h))
            else:
                y, layer_balance = block.feed_forward(block.norm2(h))
                balance = balance + layer_balance
            h = h + block.dropout(y)
            if loss is not None:
                kl = kl + loss / indexers
            if mask is not None:
                selected.append(mask)
        return dict(logits=self.lm_head(self.norm(h)), load_balancing=self.config.load_balancing_weight * balance,
                    indexer_kl=kl if self.config.is_sparse else None, selected=selected)


def lm_loss(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def is_indexer_parameter(name):
    return ".indexer." in name
