"""A member of a crew that ends before it has said anything."""

raise ZeroDivisionError("the report of a patient")
