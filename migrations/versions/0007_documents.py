"""Documents with their originals, pages, passages and indexes, and functions that find documents to ingest."""

from alembic import op

from migrations.tenancy import definer, protect

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table documents (
            user_id varchar(128) not null,
            id integer not null,
            filename text not null,
            original_filename text not null,
            content_type text not null,
            file_size bigint not null,
            sha256 varchar(64) not null,
            is_original_kept boolean default false not null,
            status text default 'pending' not null,
            reason text,
            title text default '' not null,
            language text default 'simple' not null,
            pages integer,
            pages_read integer default 0 not null,
            pages_cut integer default 0 not null,
            chunks integer default 0 not null,
            words integer default 0 not null,
            is_read boolean default false not null,
            has_pages boolean default false not null,
            attempt integer default 0 not null,
            fruitless integer default 0 not null,
            lease_owner text,
            lease_until timestamp with time zone,
            cancel_requested boolean default false not null,
            created_at timestamp with time zone default now() not null,
            updated_at timestamp with time zone default now() not null,
            ended_at timestamp with time zone,
            deleted_at timestamp with time zone,
            purge_wanted boolean default false not null,
            constraint pk_documents primary key (user_id, id),
            constraint fk_documents_user_id foreign key(user_id) references users (user_id) on delete cascade,
            constraint ck_documents_status check (status in ('pending', 'processing', 'ready', 'failed'))
        )
        """
    )
    op.execute("create index ix_documents_deleted on documents (deleted_at) where deleted_at is not null")
    op.execute(
        "create index ix_documents_leased on documents (user_id, lease_until) "
        "where ended_at is null and lease_until is not null"
    )
    op.execute("create index ix_documents_unended on documents (created_at) where ended_at is null")
    op.execute("create index ix_documents_user_id_created_at on documents (user_id, created_at)")
    op.execute("create unique index uq_documents_sha256 on documents (user_id, sha256) where deleted_at is null")
    protect("documents")
    op.execute(
        """
        create table document_bytes (
            user_id varchar(128) not null,
            document_id integer not null,
            number integer not null,
            content bytea not null,
            constraint pk_document_bytes primary key (user_id, document_id, number),
            constraint fk_document_bytes_user_id
                foreign key(user_id, document_id) references documents (user_id, id) on delete cascade
        )
        """
    )
    # The column is not compressed, because most uploads are already compressed.
    op.execute("alter table document_bytes alter column content set storage external")
    protect("document_bytes")
    op.execute(
        """
        create table document_pages (
            user_id varchar(128) not null,
            document_id integer not null,
            number integer not null,
            content text not null,
            headings json default '[]' not null,
            is_scanned boolean default false not null,
            constraint pk_document_pages primary key (user_id, document_id, number),
            constraint fk_document_pages_user_id
                foreign key(user_id, document_id) references documents (user_id, id) on delete cascade
        )
        """
    )
    protect("document_pages")
    op.execute(
        """
        create table chunks (
            user_id varchar(128) not null,
            id integer not null,
            document_id integer not null,
            content text not null,
            page_number integer,
            page integer not null,
            chunk_index integer not null,
            start integer not null,
            "end" integer not null,
            headings text default '' not null,
            constraint pk_chunks primary key (user_id, id),
            constraint fk_chunks_user_id
                foreign key(user_id, document_id) references documents (user_id, id) on delete cascade
        )
        """
    )
    op.execute("create index ix_chunks_user_id_document_id on chunks (user_id, document_id, chunk_index)")
    protect("chunks")
    op.execute(
        """
        create table chunk_vectors (
            user_id varchar(128) not null,
            model_id smallint not null,
            chunk_id integer not null,
            document_id integer not null,
            embedding halfvec not null,
            constraint pk_chunk_vectors primary key (user_id, model_id, chunk_id),
            constraint fk_chunk_vectors_user_id
                foreign key(user_id, chunk_id) references chunks (user_id, id) on delete cascade
        )
        """
    )
    # Vectors are stored in the row itself, in a table without long text. Next to long text, or stored out of line,
    # exact search would cost four times as much.
    op.execute("alter table chunk_vectors alter column embedding set storage plain")
    protect("chunk_vectors")
    op.execute(
        """
        create table postings (
            user_id varchar(128) not null,
            language text not null,
            lexeme text not null,
            document_id integer not null,
            first_chunk integer not null,
            entries bytea not null,
            constraint pk_postings primary key (user_id, language, lexeme, document_id, first_chunk) include (entries),
            constraint fk_postings_user_id
                foreign key(user_id, document_id) references documents (user_id, id) on delete cascade
        )
        """
    )
    op.execute("create index ix_postings_user_id_document_id on postings (user_id, document_id)")
    protect("postings")
    op.execute(
        """
        create table embedding_models (
            id smallserial not null,
            name text not null,
            dim integer not null,
            is_current boolean default false not null,
            created_at timestamp with time zone default now() not null,
            constraint pk_embedding_models primary key (id),
            constraint uq_embedding_models_name unique (name)
        )
        """
    )
    op.execute("create unique index uq_embedding_models_current on embedding_models (is_current) where is_current")
    op.execute("grant select on embedding_models to docutalk_app")
    op.execute("insert into embedding_models (name, dim, is_current) values ('all-MiniLM-L6-v2', 384, true)")
    op.execute("alter table users add column tainted_writes text default 'ask' not null")
    op.execute("alter table users add constraint ck_users_tainted_writes check (tainted_writes in ('ask', 'allow'))")
    op.execute("alter table operations add column document_ids integer[] default '{}' not null")
    op.execute("create index ix_operations_user_id_read on operations (user_id, run_id) where document_ids <> '{}'")
    op.execute("alter table tasks add column document_id integer")
    op.execute("alter table tasks add column page_number integer")
    op.execute("alter table tasks add column quote text")
    definer(
        "claimable_documents(most_of_a_user integer, but_not text[])",
        "table (user_id text, id text)",
        """
        select d.user_id::text, d.id::text from public.documents d
        where d.ended_at is null and d.deleted_at is null and d.user_id || ' ' || d.id <> all (but_not)
          and (d.status = 'pending' or d.lease_until is null or d.lease_until < now())
          and (select count(*) from public.documents b where b.user_id = d.user_id and b.ended_at is null
                 and b.lease_until >= now()) < most_of_a_user
        order by coalesce(d.lease_until, d.created_at) limit 1
        for update of d skip locked
        """,
    )
    definer(
        "is_any_document_left()",
        "boolean",
        "select exists (select from public.documents d where d.ended_at is null and d.deleted_at is null)",
    )
    definer(
        "purgeable_documents(deleted_before timestamp with time zone, most integer)",
        "table (user_id text, id text)",
        """
        select d.user_id::text, d.id::text from public.documents d
        where d.deleted_at < deleted_before or d.purge_wanted and d.deleted_at is not null
        order by d.deleted_at limit most
        """,
    )
    definer(
        "has_room_for(bytes bigint, most bigint)",
        "boolean",
        "select coalesce(sum(d.file_size), 0) + bytes <= most from public.documents d",
    )
    definer(
        "choose_embedding_model(chosen text, dimensions integer)",
        "boolean",
        """
        -- Only while there is nothing that another model has embedded.
        update public.embedding_models set is_current = false
        where is_current and name <> chosen and not exists (select from public.chunk_vectors);
        insert into public.embedding_models (name, dim, is_current)
        select chosen, dimensions, true where not exists (select from public.embedding_models m where m.is_current)
        on conflict (name) do update set is_current = true, dim = excluded.dim;
        select exists (select from public.embedding_models m where m.name = chosen and m.is_current);
        """,
    )


def downgrade() -> None:
    for function in (
        "choose_embedding_model(text, integer)",
        "has_room_for(bigint, bigint)",
        "purgeable_documents(timestamp with time zone, integer)",
        "is_any_document_left()",
        "claimable_documents(integer, text[])",
    ):
        op.execute(f"drop function {function}")
    op.execute("alter table tasks drop column document_id, drop column page_number, drop column quote")
    op.execute("drop index ix_operations_user_id_read")
    op.execute("alter table operations drop column document_ids")
    op.execute("alter table users drop column tainted_writes")
    for table in (
        "embedding_models",
        "postings",
        "chunk_vectors",
        "chunks",
        "document_pages",
        "document_bytes",
        "documents",
    ):
        op.execute(f"drop table {table}")
