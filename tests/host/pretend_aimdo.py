"""The host's native allocator for dynamic VRAM, on a pretend card.

The host keeps weights in a range of addresses that is backed by memory while there is some: asked
for a weight, the allocator says that it is resident, or gives room for it, or has none. This one
does so within a budget, and forgets the oldest weights first.
"""

from __future__ import annotations

from typing import Any, ClassVar
from weakref import WeakSet

import comfy
import comfy_aimdo.host_buffer
import comfy_aimdo.model_vbar
import comfy_aimdo.torch
import torch
from pretend_card import card

Allocation = tuple["Vbar", int, int]


class Vbar:
    """The weights of one model on the card."""

    all: ClassVar[WeakSet[Vbar]] = WeakSet()
    budget = 0

    def __init__(self, size: int, device: int) -> None:
        self.offset = 0
        self.resident: dict[int, torch.Tensor] = {}
        self.pinned: set[int] = set()
        self.faults = 0
        Vbar.all.add(self)

    def prioritize(self) -> None:
        """Weights of other models go first from now on."""

    def alloc(self, size: int) -> Allocation:
        self.offset += size
        return self, self.offset - size, size

    def loaded_size(self) -> int:
        return sum(weight.nbytes for weight in self.resident.values())

    def free_memory(self, size: float) -> int:
        freed = 0
        for offset in list(self.resident):
            if freed >= size:
                break
            if offset not in self.pinned:
                freed += self.resident.pop(offset).nbytes
        return freed

    def fault(self, offset: int, size: int) -> bytearray | None:
        """A mark that stays the same while the weight is resident; nothing where there is no
        room."""
        if offset not in self.resident:
            missing = self.loaded_size() + size - self.budget
            if missing > 0 and self.free_memory(missing) < missing:
                return None
            self.faults += 1
            self.resident[offset] = card.uncounted(size)
        self.pinned.add(offset)
        return bytearray(id(self.resident[offset]).to_bytes(8, "little"))


def loaded_size() -> int:
    return sum(vbar.loaded_size() for vbar in Vbar.all)


class HostBuffer:
    """Pinned memory, of which there is none."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.size = 0


def install(budget: int) -> None:
    """Turn dynamic VRAM on, as the host's ``main.py`` does where there is a card for it. Of one
    model ``budget`` bytes may be resident; where it has more, weights are streamed."""
    Vbar.budget = budget
    vbar: Any = comfy_aimdo.model_vbar
    vbar.ModelVBAR = Vbar
    vbar.vbar_fault = lambda allocation: allocation[0].fault(*allocation[1:])
    vbar.vbar_unpin = lambda allocation: allocation[0].pinned.discard(allocation[1])
    vbar.vbars_analyze = lambda device: loaded_size()
    card.taken_elsewhere = loaded_size
    comfy_aimdo.host_buffer.HostBuffer = HostBuffer  # type: ignore
    comfy_aimdo.torch.aimdo_to_tensor = lambda allocation, device: allocation[0].resident[
        allocation[1]
    ]
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True
