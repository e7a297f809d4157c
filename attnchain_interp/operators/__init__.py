"""Matrices over tokens known by their products, whether their map is held or not."""
