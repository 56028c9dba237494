"""Losses: reverse KL (plain and fused), maximum mean discrepancy, dual alignment."""
