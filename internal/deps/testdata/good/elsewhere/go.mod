module example.com/elsewhere
