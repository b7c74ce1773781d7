"""Models that read documents: released tokenizers and prompts, and the writing of one page, token by token."""
