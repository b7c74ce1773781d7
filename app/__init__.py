"""The doors for people: command line, server and page. Nothing imports this package; it is started."""
