"""What judges an attribution: one class per metric, figures per example, a torchmetrics face."""
