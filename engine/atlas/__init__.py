"""What layers lose by being changed: estimated by `proxies`, and measured in an `atlas`."""
