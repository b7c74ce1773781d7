"""A repository as one prompt: its files, who imports whom, and what fits in a budget of tokens.

The package is not called `repo` because `dsv4.repo` is the function that names a repository in a chat.
"""

from dsv4.repository.graph import Graph, read_graph
from dsv4.repository.pack import Pack, pack

__all__ = ["Graph", "Pack", "pack", "read_graph"]
