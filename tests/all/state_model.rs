//! Model-based test of the state engine.
