"""What a study is: its specification, axes, scales, plan and cost."""
