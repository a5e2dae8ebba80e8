"""What is remembered: plans, journals, audits, maturity, holds, locks and claims, all in one place that
outlives us.

The vault is written before anything is deleted and read after anything went wrong, so its formats are plain
(JSON lines, Parquet, zstd) and each file says by itself whether it is whole. `layout` has the paths, `vault`
opens one, `operations` is one cycle's record, `lock` and `claim` keep two cycles apart, `catalog` is a
derived index. docs/vault.md is the same for a person with a shell.
"""
