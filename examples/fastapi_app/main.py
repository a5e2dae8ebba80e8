"""Users with a picture and posts with images: an application as there are many, and s3gc in it.

A new picture replaces the old one in the database, and the old file stays. A deleted post leaves its images. Nothing in
here is about that: the last lines are, and they are all there is to it.

Settings are variables: DATABASE_URL (SQLite by default), APP_BUCKET, APP_S3_ENDPOINT, APP_VAULT, S3GC_ADMIN_API_KEY.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, File, Form, HTTPException, Request, Response, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.templating import Jinja2Templates
from pydantic import BaseModel, ConfigDict
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, sessionmaker

from s3gc import create_config
from s3gc.integrations.fastapi import setup_s3gc_plugin

from .files import Files
from .tables import Base, Post, User

PICTURES = ("image/png", "image/jpeg", "image/webp", "image/gif")
LARGEST = 5 * 1024 * 1024

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite:///./app.db")
BUCKET = os.environ.get("APP_BUCKET", "app-files")
ENDPOINT_URL = os.environ.get("APP_S3_ENDPOINT")


class UserOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    name: str
    avatar_key: str | None


class PostOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    author_id: int
    title: str
    body: str
    cover_url: str | None


engine = create_engine(DATABASE_URL)
Base.metadata.create_all(engine)
sessions = sessionmaker(engine)
files = Files(BUCKET, ENDPOINT_URL)
templates = Jinja2Templates(Path(__file__).with_name("templates"))
app = FastAPI(title="Users and posts")


def database() -> Iterator[Session]:
    with sessions.begin() as session:
        yield session


Database = Annotated[Session, Depends(database)]


def kept(upload: UploadFile | None, folder: str) -> str | None:
    if upload is None or not upload.filename:
        return None
    if upload.content_type not in PICTURES:
        raise HTTPException(415, f"only pictures: {', '.join(PICTURES)}")
    content = upload.file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise HTTPException(413, "at most 5 MiB")
    return files.put(folder, upload.filename, content, upload.content_type)


@app.get("/", response_class=HTMLResponse, include_in_schema=False)
def home(request: Request, session: Database) -> Response:
    users = session.scalars(select(User).order_by(User.id)).all()
    posts = session.scalars(select(Post).order_by(Post.id.desc()).limit(50)).all()
    return templates.TemplateResponse(request, "home.html", {"users": users, "posts": posts})


@app.get("/users")
def list_users(session: Database) -> list[UserOut]:
    return [UserOut.model_validate(user) for user in session.scalars(select(User).order_by(User.id))]


@app.post("/users", status_code=201)
def add_user(
    session: Database,
    name: Annotated[str, Form(max_length=80)],
    avatar: Annotated[UploadFile | None, File()] = None,
) -> UserOut:
    user = User(name=name, avatar_key=kept(avatar, "avatars"))
    session.add(user)
    session.flush()
    return UserOut.model_validate(user)


@app.post("/users/{user_id}/avatar")
def change_avatar(session: Database, user_id: int, avatar: Annotated[UploadFile, File()]) -> UserOut:
    """The new picture's key replaces the old one's; the old file is nobody's from now on."""
    user = session.get(User, user_id)
    if user is None:
        raise HTTPException(404)
    user.avatar_key = kept(avatar, "avatars")
    return UserOut.model_validate(user)


@app.get("/posts")
def list_posts(session: Database) -> list[PostOut]:
    return [PostOut.model_validate(post) for post in session.scalars(select(Post).order_by(Post.id))]


@app.post("/users/{user_id}/posts", status_code=201)
def add_post(
    session: Database,
    user_id: int,
    title: Annotated[str, Form(max_length=200)],
    body: Annotated[str, Form(max_length=100_000)] = "",
    cover: Annotated[UploadFile | None, File()] = None,
    image: Annotated[UploadFile | None, File()] = None,
) -> PostOut:
    if session.get(User, user_id) is None:
        raise HTTPException(404)
    cover_key, image_key = kept(cover, "covers"), kept(image, "images")
    if image_key is not None:
        body += f"\n\n![](/files/{image_key})\n"
    post = Post(
        author_id=user_id, title=title, body=body, cover_url=f"/files/{cover_key}" if cover_key else None
    )
    session.add(post)
    session.flush()
    return PostOut.model_validate(post)


@app.delete("/posts/{post_id}", status_code=204)
def delete_post(session: Database, post_id: int) -> None:
    """The row goes; its files stay behind."""
    post = session.get(Post, post_id)
    if post is None:
        raise HTTPException(404)
    session.delete(post)


@app.post("/posts/{post_id}/delete", include_in_schema=False)
def delete_post_by_form(session: Database, post_id: int) -> Response:
    delete_post(session, post_id)
    return RedirectResponse("/", status_code=303)


@app.get("/files/{key:path}")
def read_file(key: str) -> Response:
    found = files.get(key)
    if found is None:
        raise HTTPException(404)
    content, content_type = found
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    return Response(content, media_type=content_type, headers=headers)


# Everything that s3gc needs to know: the bucket, and which columns name files in it.
config = create_config(
    bucket=BUCKET,
    endpoint_url=ENDPOINT_URL,
    tables={"users": ["avatar_key"], "posts": ["body", "cover_url"]},
    base_urls=[{"url": "/files/"}],
    database_url=DATABASE_URL,
    vault_path=os.environ.get("APP_VAULT", "./s3gc_vault"),
    mode="execute",
    approval="manual",  # a person looks at each plan, in the console
    retention_days=float(os.environ.get("APP_RETENTION_DAYS", "7")),
    schedule_cron="02:30",
)
setup_s3gc_plugin(app, config)
