"""The programs of `tfscale bench all_reduce`: engines of TensorFlow, and the physical limits."""
