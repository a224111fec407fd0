"""What a plan is made of: one small class a step, with describe() and execute()."""
