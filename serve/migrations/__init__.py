"""The steps by which the feedback store's database came to be what it is; they run when it is opened."""
