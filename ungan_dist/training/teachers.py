"""A student beside its teachers, for losses that compare their outputs on the same images."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class WithTeachers(nn.Module):
    """Stack the logits of a student and of its teachers, in this order, so that the common training pass can be used.

    The teachers take no gradient.

    Examples:
        >>> both = WithTeachers(nn.Linear(3, 2), nn.Linear(3, 2))
        >>> both(torch.zeros(5, 3)).shape
        torch.Size([2, 5, 2])
    """

    def __init__(self, student: nn.Module, *teachers: nn.Module) -> None:
        super().__init__()
        self.student, self.teachers = student, nn.ModuleList(teachers)

    def forward(self, images: Float[Tensor, "batch ..."]) -> Float[Tensor, "models batch classes"]:
        with torch.no_grad():
            of_teachers = [teacher(images) for teacher in self.teachers]
        return torch.stack([self.student(images), *of_teachers])
