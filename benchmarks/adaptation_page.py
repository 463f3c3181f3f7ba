def page(documents):
    return ""
