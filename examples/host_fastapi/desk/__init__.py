"""A ticket desk: customers' questions, and the agents who answer them."""
