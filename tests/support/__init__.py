"""Small nets, photos, faulty models and warm processes that several tests share."""
