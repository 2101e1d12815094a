"""Transformers and state space models that read tokens."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import io
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY = 96


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, causal: bool = False) -> Tensor:
    """Multi-head attention over (batch, positions, width)."""
    b, n, w = q.shape
    q, k, v = (t.reshape(b, -1, heads, w // heads).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(b, n, w)


# ---------------------------------------------------------------- GPT-2


class Conv1D(nn.Module):
    """Linear layer that stores its weight as (inputs, outputs), as in openai/gpt-2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis."""
        return x @ self.weight + self.bias


class GPTBlock(nn.Module):
    """Causal pre-norm block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(width)
        self.c_attn = Conv1D(width, 3 * width)
        self.c_proj = Conv1D(width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.c_fc = Conv1D(width, 4 * width)
        self.mlp_proj = Conv1D(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, positions, width) to the same shape."""
        q, k, v = self.c_attn(self.ln_1(x)).chunk(3, -1)
        x = x + self.c_proj(attend(q, k, v, self.heads, causal=True))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    """GPT-2 with tied head (Radford et al., Language Models are Unsupervised Multitask Learners, 2019)."""

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.wte = nn.Embedding(VOCABULARY, width)
        self.wpe = nn.Embedding(32, width)
        self.h = nn.ModuleList([GPTBlock(width, 4) for _ in range(depth)])
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, VOCABULARY, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token."""
        x = self.wte(input_ids) + self.wpe(torch.arange(input_ids.shape[1], device=input_ids.device))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def gpt_init(name: str, module: nn.Module) -> None:
    """N(0, 0.02); projections into the residual stream scaled by 1/√(2·blocks) (GPT-2, section 2.3)."""
    if isinstance(module, Conv1D):
        std = 0.02 / math.sqrt(2 * 4) if name.endswith("_proj") else 0.02
        nn.init.normal_(module.weight, std=std)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


# ---------------------------------------------------------------- Llama


class RMSNorm(nn.Module):
    """Root mean square normalisation (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def rotate(x: Tensor) -> Tensor:
    """Rotary positions (Su et al., RoFormer, 2021) for (batch, positions, heads, size)."""
    n, size = x.shape[1], x.shape[-1]
    angle = torch.outer(torch.arange(n), 10000 ** (-torch.arange(0, size, 2) / size))
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class LlamaBlock(nn.Module):
    """Pre-norm block with rotary attention and a SwiGLU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = RMSNorm(width)
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.mlp_norm = RMSNorm(width)
        self.gate_proj = nn.Linear(width, 2 * width, bias=False)
        self.up_proj = nn.Linear(width, 2 * width, bias=False)
        self.down_proj = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, positions, width) to the same shape."""
        y = self.attention_norm(x)
        q, k = (rotate(p(y).unflatten(-1, (self.heads, -1))).flatten(2) for p in (self.q_proj, self.k_proj))
        x = x + self.o_proj(attend(q, k, self.v_proj(y), self.heads, causal=True))
        y = self.mlp_norm(x)
        return x + self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y))


class Llama(nn.Module):
    """Decoder with an untied head (Touvron et al., LLaMA, 2023)."""

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, width)
        self.layers = nn.ModuleList([LlamaBlock(width, 4) for _ in range(depth)])
        self.norm = RMSNorm(width)
        self.lm_head = nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token."""
        x = self.embed_tokens(input_ids)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


def normal_init(name: str, module: nn.Module) -> None:
    """As _init_weights of transformers' Llama with initializer_range = 0.02."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


# ---------------------------------------------------------------- BERT


class BertLayer(nn.Module):
    """Post-norm encoder layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.intermediate = nn.Linear(width, 4 * width)
        self.output = nn.Linear(4 * width, width)
        self.output_norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, positions, width) to the same shape."""
        y = attend(self.query(x), self.key(x), self.value(x), self.heads)
        x = self.attention_norm(x + self.dropout(self.attention_output(y)))
        y = self.output(F.gelu(self.intermediate(x)))
        return self.output_norm(x + self.dropout(y))


class Bert(nn.Module):
    """Encoder with pooler and classifier (Devlin et al., BERT, 2018)."""

    def __init__(self, width: int = 64, depth: int = 3, classes: int = 3) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, width, padding_idx=0)
        self.position_embeddings = nn.Embedding(32, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList([BertLayer(width, 4) for _ in range(depth)])
        self.pooler = nn.Linear(width, width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """Classify sentences."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        x = self.norm(x + self.token_type_embeddings(token_type_ids))
        for layer in self.layers:
            x = layer(x)
        return self.classifier(torch.tanh(self.pooler(x[:, 0])))


def bert_init(name: str, module: nn.Module) -> None:
    """As BertPreTrainedModel._init_weights of transformers: N(0, 0.02), padding row zero."""
    normal_init(name, module)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()


# ---------------------------------------------------------------- T5


class T5Attention(nn.Module):
    """Attention without scaling; the scale is in the initialisation of q."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width, bias=False)
        self.o = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, memory: Tensor, bias: Tensor | None) -> Tensor:
        """Attend from x to memory, adding `bias` (heads, queries, keys) to the scores."""
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for t in (self.q(x), self.k(memory), self.v(memory))
        )
        scores = q @ k.transpose(-1, -2)
        if bias is not None:
            scores = scores + bias
        return self.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class T5Block(nn.Module):
    """Pre-norm block, with cross-attention in the decoder."""

    def __init__(self, width: int, heads: int, decoder: bool) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention = T5Attention(width, heads)
        self.cross_norm = RMSNorm(width) if decoder else None
        self.cross_attention = T5Attention(width, heads) if decoder else None
        self.ff_norm = RMSNorm(width)
        self.wi = nn.Linear(width, 4 * width, bias=False)
        self.wo = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor, bias: Tensor, memory: Tensor | None = None) -> Tensor:
        """Map (batch, positions, width) to the same shape."""
        y = self.attention_norm(x)
        x = x + self.attention(y, y, bias)
        if self.cross_attention is not None and self.cross_norm is not None and memory is not None:
            x = x + self.cross_attention(self.cross_norm(x), memory, None)
        return x + self.wo(F.relu(self.wi(self.ff_norm(x))))


class T5(nn.Module):
    """Encoder and decoder with relative positions and a tied head (Raffel et al., T5, 2019)."""

    def __init__(self, width: int = 48, heads: int = 4) -> None:
        super().__init__()
        self.shared = nn.Embedding(VOCABULARY, width)
        self.relative_bias = nn.Embedding(31, heads)
        self.encoder = nn.ModuleList([T5Block(width, heads, decoder=False) for _ in range(2)])
        self.encoder_norm = RMSNorm(width)
        self.decoder_bias = nn.Embedding(31, heads)
        self.decoder = nn.ModuleList([T5Block(width, heads, decoder=True) for _ in range(2)])
        self.decoder_norm = RMSNorm(width)

    def forward(self, input_ids: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """Logits of the next output token."""
        memory = self.shared(input_ids)
        bias = self.relative(self.relative_bias, input_ids.shape[1])
        for block in self.encoder:
            memory = block(memory, bias)
        memory = self.encoder_norm(memory)
        n = decoder_input_ids.shape[1]
        future = torch.ones(n, n, dtype=torch.bool).triu(1)
        bias = self.relative(self.decoder_bias, n).masked_fill(future, -1e9)
        x = self.shared(decoder_input_ids)
        for block in self.decoder:
            x = block(x, bias, memory)
        x = self.decoder_norm(x) * self.shared.embedding_dim**-0.5
        return F.linear(x, self.shared.weight)

    @staticmethod
    def relative(table: nn.Embedding, n: int) -> Tensor:
        """Bias (heads, n, n) for distances up to 15."""
        distance = torch.arange(n)[None] - torch.arange(n)[:, None]
        return table(distance.clamp(-15, 15) + 15).permute(2, 0, 1)


def t5_init(name: str, module: nn.Module) -> None:
    """As T5PreTrainedModel._init_weights: mesh-tensorflow's factors, N(0, 1) for the shared embedding."""
    if isinstance(module, T5):
        width = module.shared.embedding_dim
        nn.init.normal_(module.shared.weight, std=1.0)
        nn.init.normal_(module.relative_bias.weight, std=width**-0.5)
        nn.init.normal_(module.decoder_bias.weight, std=width**-0.5)
    elif isinstance(module, T5Attention):
        width = module.q.in_features
        nn.init.normal_(module.q.weight, std=(width * width // module.heads) ** -0.5)
        for projection in (module.k, module.v, module.o):
            nn.init.normal_(projection.weight, std=width**-0.5)
    elif isinstance(module, T5Block):
        nn.init.normal_(module.wi.weight, std=module.wi.in_features**-0.5)
        nn.init.normal_(module.wo.weight, std=module.wo.in_features**-0.5)


# ---------------------------------------------------------------- mixture of experts


class Experts(nn.Module):
    """Top-2 of four experts whose weights are stacked as (experts, inputs, outputs)."""

    def __init__(self, width: int, hidden: int, experts: int = 4) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts, bias=False)
        self.w1 = nn.Parameter(torch.empty(experts, width, hidden))
        self.w2 = nn.Parameter(torch.empty(experts, hidden, width))
        nn.init.normal_(self.w1, std=0.02)
        nn.init.normal_(self.w2, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, positions, width) to the same shape."""
        scores = self.router(x).softmax(-1)
        kept, chosen = scores.topk(2)
        gates = torch.zeros_like(scores).scatter(-1, chosen, kept / kept.sum(-1, keepdim=True))
        hidden = F.gelu(torch.einsum("bnd,edh->bneh", x, self.w1))
        return torch.einsum("bneh,ehd,bne->bnd", hidden, self.w2, gates)


class MoEBlock(nn.Module):
    """Pre-norm block whose feed-forward part is a mixture of experts."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm2 = RMSNorm(width)
        self.experts = Experts(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, positions, width) to the same shape."""
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.out(attend(q, k, v, self.heads, causal=True))
        return x + self.experts(self.norm2(x))


class MoE(nn.Module):
    """Mixture-of-experts decoder (Fedus et al., Switch Transformers, 2021; Jiang et al., Mixtral, 2024)."""

    def __init__(self, width: int = 48, depth: int = 3) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.ModuleList([MoEBlock(width, 4) for _ in range(depth)])
        self.norm = RMSNorm(width)
        self.lm_head = nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token."""
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.norm(x))


def moe_init(name: str, module: nn.Module) -> None:
    """As _init_weights of transformers' Mixtral: N(0, 0.02) everywhere."""
    normal_init(name, module)
    if isinstance(module, Experts):
        nn.init.normal_(module.w1, std=0.02)
        nn.init.normal_(module.w2, std=0.02)


# ---------------------------------------------------------------- Mamba


class MambaMixer(nn.Module):
    """Selective state space layer (Gu and Dao, Mamba, 2023), scanned step by step."""

    def __init__(self, width: int, state: int = 8, kernel: int = 4, dt_rank: int = 4) -> None:
        super().__init__()
        inner = 2 * width
        self.dt_rank, self.state = dt_rank, state
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, kernel, padding=kernel - 1, groups=inner)
        self.x_proj = nn.Linear(inner, dt_rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(dt_rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, state + 1).repeat(inner, 1).log())
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)
        self.reset_dt()

    def reset_dt(self) -> None:
        """As mamba_ssm: dt_proj keeps the variance, its bias is softplus⁻¹ of dt in [0.001, 0.1]."""
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        low, high = math.log(0.001), math.log(0.1)
        dt = torch.exp(torch.rand(self.dt_proj.out_features) * (high - low) + low).clamp(min=1e-4)
        with torch.no_grad():
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, positions, width) to the same shape."""
        n = x.shape[1]
        x, z = self.in_proj(x).chunk(2, -1)
        x = F.silu(self.conv1d(x.transpose(1, 2))[..., :n].transpose(1, 2))
        dt, b, c = self.x_proj(x).split([self.dt_rank, self.state, self.state], -1)
        dt = F.softplus(self.dt_proj(dt))
        decay = torch.exp(dt[..., None] * -torch.exp(self.A_log))
        drive = (dt * x)[..., None] * b[:, :, None]
        state = torch.zeros_like(drive[:, 0])
        outputs = []
        for t in range(n):
            state = decay[:, t] * state + drive[:, t]
            outputs.append((state * c[:, t, None]).sum(-1))
        y = torch.stack(outputs, 1) + self.D * x
        return self.out_proj(y * F.silu(z))


class Mamba(nn.Module):
    """Residual stack of selective state space layers with a tied head."""

    def __init__(self, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.norms = nn.ModuleList([RMSNorm(width) for _ in range(depth)])
        self.mixers = nn.ModuleList([MambaMixer(width) for _ in range(depth)])
        self.norm_f = RMSNorm(width)
        self.lm_head = nn.Linear(width, VOCABULARY, bias=False)
        self.lm_head.weight = self.embedding.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token."""
        x = self.embedding(input_ids)
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            x = x + mixer(norm(x))
        return self.lm_head(self.norm_f(x))


def mamba_init(name: str, module: nn.Module) -> None:
    """As mamba_ssm's _init_weights: embedding N(0, 0.02), out_proj like nn.Linear and over √depth."""
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Linear) and name.endswith("out_proj"):
        nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
        with torch.no_grad():
            module.weight /= math.sqrt(4)


# ---------------------------------------------------------------- LoRA


class LoRALinear(nn.Module):
    """A frozen linear layer plus a trained product of two thin matrices (Hu et al., LoRA, 2021)."""

    def __init__(self, base: nn.Linear, rank: int = 4, alpha: int = 8) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scaling = alpha / rank
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Base plus low-rank update."""
        return self.base(x) + F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scaling


def _checkpoint() -> bytes:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Llama(width=48, depth=2)
        for name, module in model.named_modules():
            normal_init(name, module)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.getvalue()


CHECKPOINT = _checkpoint()  # stands in for the file of a published model


def lora_llama() -> nn.Module:
    """A loaded decoder whose query and value projections are adapted; nothing else trains."""
    model = Llama(width=48, depth=2)
    model.load_state_dict(torch.load(io.BytesIO(CHECKPOINT), weights_only=True))
    model.requires_grad_(False)
    for layer in model.layers:
        for name in ("q_proj", "v_proj"):
            setattr(layer, name, LoRALinear(getattr(layer, name)))
    return model
