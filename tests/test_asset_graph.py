"""The asset graph is the one that was agreed."""

import difflib
import os
from pathlib import Path

from jobs import definitions
from resources.fakes import FakeCausalLM, FakeEncoder


def graph_lines() -> list[str]:
    """Every asset with its group, whether it is kept by source, and what it reads."""
    defs = definitions.build_defs(Path("nowhere"), FakeEncoder(), FakeCausalLM())
    graph = defs.resolve_asset_graph()
    said = []
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        said.append(f"{key.to_user_string()} ({node.group_name}, {'one a source' if node.is_partitioned else 'one'})")
        for parent in sorted(node.parent_keys):
            across = graph.get(parent).is_partitioned and not node.is_partitioned
            said.append(f"    {parent.to_user_string()}" + (" of every source" if across else ""))
    return said


def test_the_asset_graph_is_the_one_that_was_agreed():
    """A change of the graph is to be seen in a review. To agree to it: ``RENEW=1 python -m pytest tests/test_asset_graph.py``."""
    agreed = Path(__file__).with_name("asset_graph.txt")
    if os.environ.get("RENEW"):
        agreed.write_text("\n".join(graph_lines()) + "\n", encoding="utf-8")
    before, now = agreed.read_text(encoding="utf-8").splitlines(), graph_lines()
    changes = "\n".join(difflib.unified_diff(before, now, "agreed", "now", lineterm="", n=0))
    assert not changes, f"the asset graph changed; if it should, set RENEW=1 for this test\n{changes}"
