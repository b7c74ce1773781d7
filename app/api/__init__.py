"""The HTTP interface for programs, in the shape that public clients speak; every route stands on the same queue."""
