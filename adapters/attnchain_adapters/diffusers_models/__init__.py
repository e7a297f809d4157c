"""diffusers: the attention of denoisers, in one forward or a whole sampling; guidance."""
