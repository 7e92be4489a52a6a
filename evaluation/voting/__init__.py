"""What people and judge models think of answers: which of two is better, how good one is, whether it is safe."""
