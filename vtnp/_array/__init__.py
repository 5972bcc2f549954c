"""What an array is: namespaces, differentiable primitives and their rules, boxes, trees."""
