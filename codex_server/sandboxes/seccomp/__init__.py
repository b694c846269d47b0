"""System call filters: what a guest may ask of the kernel, as tables and as compiled programs."""
