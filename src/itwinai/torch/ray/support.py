"""What trials and checkpoints of any program need to know of PyTorch, where it has loaded it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from itwinai.hpo.isolation.support import FEW, Plain, Support
from itwinai.hpo.isolation.undoing import Setting
from itwinai.torch.checkpoints.files import load_tensors, save_tensors
from itwinai.torch.ray.auditing import saves_are_heard
from itwinai.torch.ray.pickling import reduced_tensor
from itwinai.torch.ray.undoing import settings


class TorchSupport(Plain):
    """PyTorch, besides Python and NumPy."""

    def reduced(self, value: Any) -> Any:
        """Take tensors apart, so that trials share their storage until they write to it."""
        return reduced_tensor(value)

    def settings(self) -> Sequence[Setting]:
        """PyTorch's settings."""
        return settings()

    @contextmanager
    def around_trial(self, cpus: int) -> Iterator[None]:
        """Limit PyTorch's threads, and end a process group that the trial leaves."""
        torch.set_num_threads(cpus)
        with saves_are_heard():
            try:
                yield
            finally:
                if dist.is_initialized():
                    dist.destroy_process_group()

    def seed(self, seed: int) -> None:
        """Seed PyTorch's numbers too, those of all devices."""
        super().seed(seed)
        torch.manual_seed(seed)

    def random_state(self) -> Any:
        """The states of PyTorch's too, those of CUDA's devices where it was used."""
        was_used: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        cuda = torch.cuda.get_rng_state_all() if was_used else []
        return {**super().random_state(), "torch": torch.get_rng_state(), "cuda": cuda}

    def set_random_state(self, state: Any) -> None:
        """Put them back; CUDA's as far as there are as many devices."""
        super().set_random_state(state)
        if "torch" in state:
            torch.set_rng_state(state["torch"])
        if state.get("cuda") and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])

    def content(self, value: Any) -> Any:
        """Some numbers of a tensor too, those of a network, and the state of a generator."""
        if isinstance(value, torch.nn.Module):
            return [(name, self.content(part)) for name, part in value.state_dict().items()]
        if isinstance(value, torch.Generator):
            return value.get_state().tolist()
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            return super().content(value)
        some = value.detach().flatten()[:: max(1, value.numel() // FEW)]
        return value.shape, value.dtype, repr(some.tolist())

    def is_tensor(self, value: Any) -> bool:
        """Whether a value is a tensor, or a parameter."""
        return isinstance(value, torch.Tensor)

    def save(self, tensors: Mapping[str, Any], file: Path) -> None:
        """Write tensors; those that share their storage still do when they are read."""
        save_tensors(tensors, file)

    def load(self, file: Path) -> Mapping[str, Any]:
        """Read tensors to the CPU."""
        return load_tensors(file)


SUPPORT: Support = TorchSupport()
