"""A packed folder of images, trained on two workers that are killed, and resumed on one."""
