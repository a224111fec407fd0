"""Look at everything that decides whether and how containers run here: `rootless doctor`."""
