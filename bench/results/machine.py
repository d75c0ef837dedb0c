"""What a time depends on besides the file: the machine, as environment.json describes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Machine:
    """A machine. Two of the same kind are equal, whatever their names.

    Attributes:
        cpu: Model of the CPU; empty if it is not known.
        cores: Number of cores that the run may use; None if it is not known.
        instructions: Extensions of the CPU that decide which kernels run.
        gpus: Names of the GPUs.
    """

    cpu: str
    cores: int | None
    instructions: tuple[str, ...]
    gpus: tuple[str, ...]

    @classmethod
    def of_environment(cls, environment: Mapping[str, Any]) -> "Machine":
        """Take the machine from the content of environment.json, which may lack entries.

        Args:
            environment: As `describe_environment` gives it, or read from a file.
        """
        cores = environment.get("cores_allowed")
        cpu = environment.get("cpu")
        return cls(
            cpu=cpu if isinstance(cpu, str) else "",
            cores=len(cores) if isinstance(cores, list) else None,
            instructions=_names(environment.get("cpu_instructions")),
            gpus=_names(environment.get("gpus")),
        )

    @property
    def shown(self) -> str:
        """For people, such as "AMD EPYC, 2 cores"."""
        cores = "" if self.cores is None else f"{self.cores} core{'s' if self.cores != 1 else ''}"
        parts = [self.cpu or "unknown CPU", cores, *self.gpus]
        return ", ".join(part for part in parts if part)

    def differences(self, other: "Machine") -> list[str]:
        """What differs, as parts of a sentence; empty for machines of the same kind.

        Args:
            other: The machine of another run.
        """
        found = []
        if self.cpu != other.cpu:
            found.append(f"CPU {other.cpu or 'unknown'} there and {self.cpu or 'unknown'} here")
        if self.cores != other.cores:
            here, there = (_or_unknown(cores) for cores in (self.cores, other.cores))
            found.append(f"{there} cores there and {here} here")
        if self.instructions != other.instructions:
            missing = sorted({*self.instructions} ^ {*other.instructions})
            found.append(f"{', '.join(missing) or 'CPU instructions'} on one of them only")
        if self.gpus != other.gpus:
            here, there = (", ".join(gpus) or "none" for gpus in (self.gpus, other.gpus))
            found.append(f"GPU {there} there and {here} here")
        return found


def _names(value: object) -> tuple[str, ...]:
    """The texts of a list."""
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def _or_unknown(value: int | None) -> str:
    return "unknown" if value is None else str(value)
