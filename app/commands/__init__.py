"""One module for each family of commands; a module is imported only when one of its commands runs."""
