"""Other engines that compute the same windows. None of them is a dependency of the product."""
