"""The selective scan of Mamba (Gu and Dao, 2023): a linear recurrence whose factors depend on the input.

For every channel `d` and every number `n` of its state, and for every token `t`,

    state[t, d, n] = exp(step[t, d] * decay[d, n]) * state[t - 1, d, n] + step[t, d] * x[t, d] * write[t, n]
    y[t, d]        = sum over n of read[t, n] * state[t, d, n]

where `step`, `write`, `read` and `decay` are delta, B, C and A of the paper. All exponents are at most 0, so
that nothing overflows however large a step is.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

#: Tokens whose states are in memory at the same time.
CHUNK = 32


def sequential_scan(x: Tensor, step: Tensor, decay: Tensor, write: Tensor, read: Tensor) -> Tensor:
    """The recurrence as it is written, token by token; the parallel form is held against it.

    Arguments, result and number format are those of `selective_scan`.
    """
    state = x.new_zeros(len(x), *decay.shape)
    outputs = []
    for token in range(x.size(1)):
        kept = torch.exp(step[:, token, :, None] * decay)
        added = (step[:, token] * x[:, token]).unsqueeze(-1) * write[:, token, None]
        state = kept * state + added
        outputs.append((state * read[:, token, None]).sum(-1))
    return torch.stack(outputs, dim=1)


def selective_scan(
    x: Tensor, step: Tensor, decay: Tensor, write: Tensor, read: Tensor, *, chunk: int = CHUNK
) -> Tensor:
    """The recurrence, chunk after chunk and in parallel within a chunk.

    On a GPU where the package `mamba-ssm` can be imported, its kernel takes the place of this function. That
    path was never run on such a machine.

    Args:
        x: Input `[sequences, tokens, channels]`.
        step: Step size of each token, at least 0, `[sequences, tokens, channels]`.
        decay: Rate at which the state decays, at most 0, `[channels, state]`.
        write: What a token writes to the state, `[sequences, tokens, state]`.
        read: What a token reads from the state, `[sequences, tokens, state]`.
        chunk: Number of tokens whose states are in memory at the same time.

    Returns:
        Output `[sequences, tokens, channels]`. It is computed in 32 bits, also under autocast, or in 64 bits
        if `x` has 64.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    x, step, decay, write, read = (tensor.to(dtype) for tensor in (x, step, decay, write, read))
    kernel = _kernel() if x.is_cuda and dtype == torch.float32 else None
    if kernel is not None:
        last = [tensor.transpose(1, 2).contiguous() for tensor in (x, step, write, read)]
        return kernel(last[0], last[1], decay.contiguous(), last[2], last[3]).transpose(1, 2)
    # Autocast would take the matrix products in 16 bits.
    with torch.autocast(x.device.type, enabled=False):
        y: Tensor = _ChunkedScan.apply(x, step, decay, write, read, chunk)
    return y


@cache
def _kernel() -> Any:
    """`selective_scan_fn` of mamba-ssm, which has the tokens last; None if it cannot be imported."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None
    return selective_scan_fn


class _ChunkedScan(torch.autograd.Function):
    """The scan with a backward pass that keeps one state per chunk, and computes the others again.

    Within it the tokens stand first, so that the slices of a chunk are contiguous. All chunks share their
    memory: on a CPU, new memory would cost more than the arithmetic.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Tensor, decay: Tensor, write: Tensor, read: Tensor, chunk: int
    ) -> Tensor:
        """See `selective_scan`."""
        x, step, write, read = (tensor.transpose(0, 1).contiguous() for tensor in (x, step, write, read))
        chunk = min(chunk, len(x))
        kept_memory, states_memory = x.new_empty(2, chunk, x.size(1), *decay.shape)
        y, written = torch.empty_like(x), step * x
        before = x.new_zeros(-(-len(x) // chunk), x.size(1), *decay.shape)
        for number in range(len(before)):
            part = slice(number * chunk, (number + 1) * chunk)
            kept, states = (memory[: len(x[part])] for memory in (kept_memory, states_memory))
            _kept(step[part], decay, out=kept)
            _states(kept, written[part], write[part], before[number], out=states)
            torch.matmul(states, read[part].unsqueeze(-1), out=y[part].unsqueeze(-1))
            if number + 1 < len(before):
                before[number + 1] = states[-1]
        ctx.save_for_backward(x, step, decay, write, read, before)
        ctx.chunk = chunk
        return y.transpose(0, 1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the arguments."""
        x, step, decay, write, read, before = ctx.saved_tensors
        grad_y, written = grad_y.transpose(0, 1).contiguous(), step * x
        chunk = ctx.chunk
        memories = x.new_empty(4, chunk, *before.shape[1:])
        grad_x, grad_step, grad_write, grad_read = map(torch.empty_like, (x, step, write, read))
        grad_decay, carried = torch.zeros_like(decay), torch.zeros_like(before[0])
        for number in reversed(range(len(before))):
            part = slice(number * chunk, (number + 1) * chunk)
            kept, states, grad, scratch = memories[:, : len(x[part])]
            _kept(step[part], decay, out=kept)
            _states(scratch.copy_(kept), written[part], write[part], before[number], out=states)
            of_y = grad_y[part].unsqueeze(-1)
            torch.matmul(states.transpose(-1, -2), of_y, out=grad_read[part].unsqueeze(-1))
            # A state acts on its own output, and on the next state by what is kept of it.
            torch.mul(of_y, read[part].unsqueeze(-2), out=grad)
            grad[-1] += carried
            scratch[:-1] = kept[1:]
            _scan_back(scratch, grad)
            torch.mul(grad[0], kept[0], out=carried)
            torch.matmul(
                grad.transpose(-1, -2), written[part].unsqueeze(-1), out=grad_write[part].unsqueeze(-1)
            )
            grad_written = torch.matmul(grad, write[part].unsqueeze(-1)).squeeze(-1)
            torch.mul(grad_written, step[part], out=grad_x[part])
            # From here on it is the gradient of the exponents.
            grad.mul_(kept)
            grad[1:].mul_(states[:-1])
            grad[0].mul_(before[number])
            of_exponents = torch.mul(grad, decay, out=scratch).sum(-1)
            torch.addcmul(of_exponents, grad_written, x[part], out=grad_step[part])
            grad_decay += torch.mul(grad, step[part].unsqueeze(-1), out=scratch).sum(dim=(0, 1))
        gradients = (grad_x, grad_step, grad_write, grad_read)
        of_x, of_step, of_write, of_read = (gradient.transpose(0, 1) for gradient in gradients)
        return of_x, of_step, grad_decay, of_write, of_read, None


def _kept(step: Tensor, decay: Tensor, *, out: Tensor) -> None:
    """What a token keeps of the state before it, `[tokens, sequences, channels, state]`, from 0 to 1."""
    torch.mul(step.unsqueeze(-1), decay, out=out).exp_()


def _states(kept: Tensor, written: Tensor, write: Tensor, before: Tensor, *, out: Tensor) -> None:
    """The states of a chunk that begins with the state `before`; `kept` is overwritten."""
    torch.mul(written.unsqueeze(-1), write.unsqueeze(-2), out=out)
    out[0].addcmul_(kept[0], before)
    _scan(kept, out)


def _scan(kept: Tensor, states: Tensor) -> None:
    """Let `states[t] += kept[t] * states[t - 1]` for one token after another, in log2(tokens) passes.

    Neighbours are joined, the pairs are scanned, and every other token follows from the pair before it. Both
    arguments are overwritten.
    """
    if len(states) < 2:
        return
    pairs = len(states) // 2
    states[1::2].addcmul_(kept[1::2], states[: 2 * pairs : 2])
    kept[1::2].mul_(kept[: 2 * pairs : 2])
    _scan(kept[1::2], states[1::2])
    rest = states[2::2]
    rest.addcmul_(kept[2::2], states[1::2][: len(rest)])


def _scan_back(kept: Tensor, states: Tensor) -> None:
    """Let `states[t] += kept[t] * states[t + 1]` from the last token to the first; see `_scan`."""
    if len(states) < 2:
        return
    pairs = len(states) // 2
    states[: 2 * pairs : 2].addcmul_(kept[: 2 * pairs : 2], states[1::2])
    kept[: 2 * pairs : 2].mul_(kept[1::2])
    _scan_back(kept[::2], states[::2])
    rest = states[1:-1:2]
    rest.addcmul_(kept[1:-1:2], states[2::2][: len(rest)])
