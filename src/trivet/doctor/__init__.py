"""Why training fails: findings with proof, for any PyTorch script. Needs torch and the standard library only."""
