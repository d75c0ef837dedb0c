"""What several tests share: small nets, photos, faulty models, warm processes."""
