"""The pure core: values, names, actions, slices, drafts and patches. Nothing here does I/O."""
