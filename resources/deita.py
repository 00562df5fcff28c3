"""DEITA's two trained scorers, as a Dagster resource.

Here belongs only which two language models they are; the pass is `CausalLM.next_token`, what they are asked is
``methods.quality.deita_scorers``.
"""

from typing import Any

import dagster as dg

from resources.causal_lm import CausalLM


class DeitaScorers(dg.ConfigurableResource):
    """Two language models that were tuned to write a score from 1 to 6."""

    complexity: str = ""
    quality: str = ""
    """Each a folder, a hub id, ``fake:...`` (a stand-in), or nothing: none is set."""
    device: str = "auto"
    dtype: str = "auto"

    def models(self) -> tuple[CausalLM, CausalLM]:
        """The scorer of complexity and the scorer of quality."""
        made = [CausalLM(model=spec, device=self.device, dtype=self.dtype) for spec in (self.complexity, self.quality)]
        return made[0], made[1]

    def identity(self) -> dict[str, Any]:
        """What the scores depend on, for fingerprints."""
        complexity, quality = self.models()
        return {"model": self.complexity, "complexity": complexity.identity(), "quality": quality.identity()}
