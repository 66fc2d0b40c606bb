"""A network in XNNPACK's integer arithmetic: after training, and trained on."""
