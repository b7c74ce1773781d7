"""Training of nano from nothing: stages, optimisers, resumable runs, one or several devices."""
