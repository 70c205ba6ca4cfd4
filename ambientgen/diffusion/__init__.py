"""The denoising loop for AudioLDM2: conditioning, sampling in step-level batches, windows, and decoding.

Works on a checkpoint's components as `diffusers` and `transformers` load them. torch is imported when something runs,
never with the module.
"""
