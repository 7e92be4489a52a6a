# A CPU image: the chat page and the endpoint on port 8000, as a user without rights.
#   docker build -t thousand .
#   docker run -p 127.0.0.1:8000:8000 -e THOUSAND_API_KEY=... --stop-timeout 30 -v thousand:/home/thousand/.thousand thousand
FROM python:3.11-slim

# llama.cpp needs the OpenMP library.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home thousand && install -d -o thousand -g thousand /home/thousand/.thousand
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY assistant assistant
COPY train train
COPY evaluation evaluation
COPY serve serve
COPY data data

# The CPU build of torch, where the index has it; else the one that PyPI has.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt .

USER thousand
WORKDIR /home/thousand
ENV THOUSAND_HOME=/home/thousand/.thousand
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=180s CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready')"
CMD ["thousand", "serve", "--host", "0.0.0.0", "--port", "8000"]
