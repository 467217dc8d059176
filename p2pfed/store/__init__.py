"""What a centre keeps on disk: the ledger, the high-water mark, its key, the spool.

`database` holds the blocks, `highwater` the one fact that must not be restored with them, `lock`
keeps a second daemon out, `keyfile` the centre's private key, `spool` payloads and results.
`files` is what they share: writes that survive power loss, and the disk's errors in our words.
"""
