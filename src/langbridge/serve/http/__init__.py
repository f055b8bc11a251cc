"""A model as a service over HTTP, in the form of OpenAI's API, with a page to try it. Needs the extra `serve`."""
