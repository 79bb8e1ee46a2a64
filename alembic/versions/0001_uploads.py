"""Uploads, their parts and sources, the outbox and the nodes.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out, not taken from rindle.db: a migration stays what it was when the models move on.
_INSTANT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
_BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "rindle_uploads",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("upload_offset", sa.BigInteger(), nullable=False),
        sa.Column("upload_length", sa.BigInteger()),
        sa.Column("part_size", sa.BigInteger(), nullable=False),
        sa.Column("part_count", sa.Integer(), nullable=False),
        sa.Column("multipart_id", sa.Text()),
        sa.Column("key", sa.Text()),
        sa.Column("e_tag", sa.Text()),
        sa.Column("crc64nvme", sa.String(16)),
        sa.Column("tail_name", sa.Text()),
        sa.Column("tail_node", sa.Text()),
        sa.Column("tail_length", sa.BigInteger()),
        sa.Column("tail_crc64nvme", sa.String(16)),
        sa.Column("lease_token", sa.Text()),
        sa.Column("lease_holder", sa.Text()),
        sa.Column("lease_until", _INSTANT),
        sa.Column("release_requested", sa.Boolean(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("partial", sa.Boolean(), nullable=False),
        sa.Column("concat", sa.Text()),
        sa.Column("pins", sa.Integer(), nullable=False),
        sa.Column("untidy", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("usecase", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text()),
        sa.Column("target", sa.Text()),
        sa.Column("format", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("expires_at", _INSTANT),
        sa.Column("state_changed_at", _INSTANT, nullable=False),
        sa.Column("retry_at", _INSTANT),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failure", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rindle_uploads")),
        sa.CheckConstraint(
            "state IN ('active', 'concatenating', 'finalizing', 'complete', 'aborting', 'aborted', 'failed')",
            name=op.f("ck_rindle_uploads_state"),
        ),
        sa.CheckConstraint("upload_offset >= 0", name=op.f("ck_rindle_uploads_offset")),
        sa.CheckConstraint(
            "upload_length IS NULL OR upload_offset <= upload_length", name=op.f("ck_rindle_uploads_length")
        ),
        sa.CheckConstraint("part_size > 0 AND part_count >= 0", name=op.f("ck_rindle_uploads_parts")),
        sa.CheckConstraint("multipart_id IS NULL OR key IS NOT NULL", name=op.f("ck_rindle_uploads_multipart")),
        sa.CheckConstraint(
            "(tail_name IS NULL) = (tail_node IS NULL) AND (tail_name IS NULL) = (tail_length IS NULL)"
            " AND (tail_name IS NULL) = (tail_crc64nvme IS NULL)",
            name=op.f("ck_rindle_uploads_tail"),
        ),
        sa.CheckConstraint(
            "tail_length IS NULL OR (tail_length > 0 AND tail_length <= upload_offset)",
            name=op.f("ck_rindle_uploads_tail_length"),
        ),
        sa.CheckConstraint(
            "(lease_token IS NULL) = (lease_holder IS NULL) AND (lease_token IS NULL) = (lease_until IS NULL)",
            name=op.f("ck_rindle_uploads_lease"),
        ),
        sa.CheckConstraint("pins >= 0", name=op.f("ck_rindle_uploads_pins")),
        postgresql_with={"fillfactor": 85},
    )
    _partial_index(
        "ix_rindle_uploads_expiring",
        "rindle_uploads",
        ["expires_at", "id"],
        "expires_at IS NOT NULL AND state IN ('active', 'complete')",
    )
    _partial_index(
        "ix_rindle_uploads_unfinished",
        "rindle_uploads",
        ["state_changed_at", "id"],
        "state IN ('finalizing', 'concatenating', 'aborting')",
    )
    _partial_index("ix_rindle_uploads_untidy", "rindle_uploads", ["id"], "untidy")
    _partial_index("ix_rindle_uploads_tail_node", "rindle_uploads", ["tail_node"], "tail_node IS NOT NULL")

    op.create_table(
        "rindle_parts",
        sa.Column("upload_id", sa.Text(), nullable=False),
        sa.Column("part_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("e_tag", sa.Text(), nullable=False),
        sa.Column("crc64nvme", sa.String(16)),
        sa.PrimaryKeyConstraint("upload_id", "part_number", name=op.f("pk_rindle_parts")),
        sa.CheckConstraint("part_number > 0 AND size > 0", name=op.f("ck_rindle_parts_part")),
        sa.ForeignKeyConstraint(
            ["upload_id"],
            ["rindle_uploads.id"],
            ondelete="CASCADE",
            name=op.f("fk_rindle_parts_upload_id_rindle_uploads"),
        ),
    )

    op.create_table(
        "rindle_sources",
        sa.Column("final_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("partial_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("final_id", "position", name=op.f("pk_rindle_sources")),
        sa.ForeignKeyConstraint(
            ["final_id"],
            ["rindle_uploads.id"],
            ondelete="CASCADE",
            name=op.f("fk_rindle_sources_final_id_rindle_uploads"),
        ),
        sa.ForeignKeyConstraint(
            ["partial_id"], ["rindle_uploads.id"], name=op.f("fk_rindle_sources_partial_id_rindle_uploads")
        ),
    )
    op.create_index(op.f("ix_rindle_sources_partial_id"), "rindle_sources", ["partial_id"])

    op.create_table(
        "rindle_outbox",
        sa.Column("id", _BIG_ID, sa.Identity(), nullable=False),
        sa.Column("upload_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("sent_at", _INSTANT),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rindle_outbox")),
        sqlite_autoincrement=True,
    )
    _partial_index("ix_rindle_outbox_unsent", "rindle_outbox", ["id"], "sent_at IS NULL")

    op.create_table(
        "rindle_nodes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seen_at", _INSTANT, nullable=False),
        sa.Column("retired_at", _INSTANT),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rindle_nodes")),
    )

    op.create_table(
        "rindle_marks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_rindle_marks")),
    )


def downgrade() -> None:
    for name in ("marks", "nodes", "outbox", "sources", "parts", "uploads"):
        op.drop_table(f"rindle_{name}")


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(op.f(name), table, columns, postgresql_where=condition, sqlite_where=condition)
