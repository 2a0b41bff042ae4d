"""What a store declares, as types of TypeScript.

    identifiers   names and texts that mean the same in TypeScript, whatever is in them
    schema_types  types of JSON Schemas
    declarations  the types of a store: State, Actions, and those with names

Invariants: pure, and the same text for the same declarations.
"""
